"""Options of the linear methods."""

from __future__ import annotations

from regtool.api import Options


class NoOptions(Options):
    """The linear methods have nothing to set; masks and --seed act on them."""
