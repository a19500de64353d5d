"""Options of methods that sample a field; light, for a plugin's options module.

What carries them out is ``regtool.api.diffusion.sample_field``.
"""

from __future__ import annotations

from regtool.plugins.sampling_options import SamplingOptions

__all__ = ["SamplingOptions"]
