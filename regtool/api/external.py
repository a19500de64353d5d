"""For plugins that wrap a registration tool written outside of PyTorch; imports torch."""

from __future__ import annotations

from regtool.engine.external import register_each, require

__all__ = ["register_each", "require"]
