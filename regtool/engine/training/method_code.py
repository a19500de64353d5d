"""A method's own code at work in a training: what it raises and returns is the plugin's affair."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from torch import Tensor

from regtool.errors import PluginError, expected
from regtool.plugins.loading import reason
from regtool.plugins.training import Stage, StepOutput

_OTHERS = ("regtool", "torch", "accelerate", "numpy", "pydantic", "importlib", "contextlib")
"""Top packages whose lines are not where a method's mistake is."""


@contextmanager
def charged(label: str) -> Iterator[None]:
    """Make a PluginError of what a method's code raises in here, with the place.

    Expected errors pass, and what may happen to any code: no memory, no disk.
    """
    try:
        yield
    except Exception as error:
        if expected(error) is not None:
            raise
        place = _place(error.__traceback__)
        raise PluginError(f"{label}: {reason(error)} ({place}--debug shows more)") from error


def _place(trace: TracebackType | None) -> str:
    """The innermost line that is the method's own, as ``recipe.py, line 3; ``, if there is one."""
    found = ""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _OTHERS:
            found = f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}; "
        trace = trace.tb_next
    return found


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
