"""What a plugin author may import: the light names here, heavy ones in the modules beside.

``regtool.api.nn``, ``.losses``, ``.spatial``, ``.diffusion`` and ``.train`` import torch; this
module, ``.presets`` and ``.sampling`` do not, so a plugin's description can use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regtool.errors import DeviceError, GeometryError, InputError, PluginError, UsageError
from regtool.plugins.description import (
    API_VERSION,
    CAPABILITIES,
    Method,
    Paper,
    WeightsRef,
    instance_preset,
    native_preset,
)
from regtool.plugins.exchange import Context, Extra, Pair, Prediction, Sample
from regtool.plugins.hookspec import hookimpl
from regtool.plugins.training import Optimiser, Schedule, Stage, StepOutput

if TYPE_CHECKING:
    from regtool.plugins.options import Field as Field
    from regtool.plugins.options import Options as Options

__all__ = [
    "API_VERSION",
    "CAPABILITIES",
    "Context",
    "DeviceError",
    "Extra",
    "Field",
    "GeometryError",
    "InputError",
    "Method",
    "Optimiser",
    "Options",
    "Pair",
    "Paper",
    "PluginError",
    "Prediction",
    "Sample",
    "Schedule",
    "Stage",
    "StepOutput",
    "UsageError",
    "WeightsRef",
    "hookimpl",
    "instance_preset",
    "native_preset",
]


def __getattr__(name: str) -> Any:
    """Import pydantic only for a module that defines options, not for every description."""
    if name in {"Field", "Options"}:
        from regtool.plugins import options

        return getattr(options, name)
    raise AttributeError(f"module 'regtool.api' has no attribute {name!r}")
