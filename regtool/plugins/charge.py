"""A plugin's own code at work: what it raises is the plugin's affair, and told with its place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from regtool.errors import PluginError, expected
from regtool.plugins.loading import reason

_OTHERS = ("regtool", "torch", "accelerate", "numpy", "pydantic")
"""Top packages whose lines, as those of Python's own, are not where a plugin's mistake is."""


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
        raise PluginError(f"{label}: {reason_and_place(error)}") from error


def reason_and_place(error: BaseException) -> str:
    """Why a plugin's code failed, and at which of its lines."""
    return f"{reason(error)} ({_place(error.__traceback__)}--debug shows more)"


def _place(trace: TracebackType | None) -> str:
    """The innermost line that is the plugin's own, as ``recipe.py, line 3; ``, if there is one."""
    found = ""
    while trace is not None:
        top = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if top not in _OTHERS and top not in sys.stdlib_module_names:
            found = f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}; "
        trace = trace.tb_next
    return found
