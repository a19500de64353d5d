"""regtool: deformable medical image registration, with learned methods as plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from regtool.engine.register import register as register

__all__ = ["__version__", "register"]


def __getattr__(name: str) -> Any:
    """Import the engine on first use, so that ``import regtool`` stays light."""
    if name == "register":
        from regtool.engine.register import register

        return register
    raise AttributeError(f"module 'regtool' has no attribute {name!r}")
