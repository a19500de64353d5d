"""What a method's own code returns in a training: checked, as it is the plugin's affair."""

from __future__ import annotations

from torch import Tensor

from regtool.errors import PluginError
from regtool.plugins.training import Stage, StepOutput


def checked_stages(answer: object, method: str) -> tuple[Stage, ...]:
    """What a recipe returned. Raises PluginError where it is no sequence of stages."""
    label = f"recipe of method '{method}'"
    if not isinstance(answer, list | tuple):
        raise PluginError(f"{label} returned {type(answer).__name__}, not a tuple of stages")
    for stage in answer:
        if not isinstance(stage, Stage):
            raise PluginError(f"{label} returned {type(stage).__name__} for a Stage")
        if not isinstance(stage.optimisers, list | tuple):
            raise PluginError(f"{label}: optimisers of stage {stage.name!r} must be a tuple")
        for name in ("steps", "batch"):
            value = getattr(stage, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise PluginError(
                    f"{label}: {name} of stage {stage.name!r} is {value!r}, not a whole number"
                )
        for value in (optimiser.lr for optimiser in stage.optimisers):
            if not isinstance(value, int | float):
                raise PluginError(f"{label}: lr of stage {stage.name!r} is {value!r}, not a number")
    return tuple(answer)


def check_output(output: object, label: str) -> None:
    """Raise PluginError unless a step returned a StepOutput with a table of scalar tensors."""
    if not isinstance(output, StepOutput):
        raise PluginError(f"{label} returned {type(output).__name__}, not a StepOutput")
    if not isinstance(output.terms, dict):
        raise PluginError(f"{label}: terms is {type(output.terms).__name__}, not a dict")
    for name, term in output.terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1:
            what = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise PluginError(f"{label}: the term {name!r} is {what}, not a scalar tensor")
