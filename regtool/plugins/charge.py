"""A method's own code at work: what it raises is the plugin's affair, and told with its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from regtool.errors import PluginError, expected
from regtool.plugins.loading import reason

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
