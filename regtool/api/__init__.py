"""What a plugin author may import: the light names here, heavy ones in the modules beside.

``regtool.api.nn``, ``.losses``, ``.spatial``, ``.diffusion`` and ``.train`` import torch; this
module, ``.presets`` and ``.sampling`` do not, so a plugin's description can use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regtool.data.cases import Case, PairCase, Raw, assign_splits
from regtool.errors import DeviceError, GeometryError, InputError, PluginError, UsageError
from regtool.memory import free_memory
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
from regtool.plugins.reader import Reader, ReadPairs
from regtool.plugins.training import Optimiser, Schedule, Stage, StepOutput

if TYPE_CHECKING:
    from regtool.plugins.options import Field as Field
    from regtool.plugins.options import Options as Options

__all__ = [
    "API_VERSION",
    "CAPABILITIES",
    "Case",
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
    "PairCase",
    "Paper",
    "PluginError",
    "Prediction",
    "Raw",
    "ReadPairs",
    "Reader",
    "Sample",
    "Schedule",
    "Stage",
    "StepOutput",
    "UsageError",
    "WeightsRef",
    "assign_splits",
    "free_memory",
    "hookimpl",
    "instance_preset",
    "native_preset",
]


if not TYPE_CHECKING:  # a checker of types would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        """Import pydantic only for a module that defines options, not for every description."""
        if name in {"Field", "Options"}:
            from regtool.plugins import options

            return getattr(options, name)
        raise AttributeError(f"module 'regtool.api' has no attribute {name!r}")
