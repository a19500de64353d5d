"""regtool: deformable medical image registration, with learned methods as plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from regtool.engine.register import register as register
    from regtool.imaging.volume import Volume as Volume
    from regtool.spatial.grid import Grid as Grid

__all__ = ["Grid", "Volume", "__version__", "register"]

_PLACES = {
    "Grid": "regtool.spatial.grid",
    "Volume": "regtool.imaging.volume",
    "register": "regtool.engine.register",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use, so that ``import regtool`` stays light."""
    if name in _PLACES:
        import importlib

        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'regtool' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
