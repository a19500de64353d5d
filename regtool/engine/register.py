"""Registration of one pair, from files (or Volumes) to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from regtool.engine.device import limited_threads
from regtool.engine.registrar import Registrar, Watch
from regtool.engine.reports import check_report, write_report
from regtool.engine.request import Request, Source
from regtool.engine.task import Registration, Report, finish, load, open_task, prepare
from regtool.errors import UsageError

__all__ = ["Registration", "plan_prefix", "register", "run"]


def register(
    fixed: Source, moving: Source, method: str = "voxelmorph", **options: Any
) -> Registration:
    """Register ``moving`` to ``fixed``; the Python form of ``regtool register``.

    ``options`` are the fields of ``Request``, among them ``output`` (a prefix; nothing is written
    without one), ``weights``, ``initial``, ``device``, ``settings={name: value}``.
    Raises the errors of ``regtool.errors``, as the command line does.
    """
    try:
        request = Request(fixed, moving, method, **options)
    except TypeError as error:
        raise UsageError(f"register(): {error}") from error
    return run(request)


Show = Callable[[Mapping[str, float]], None]
Asking = AbstractContextManager[Callable[[], bool]]


def run(
    request: Request,
    registrar: Registrar | None = None,
    report: Report | None = None,
    show: Show | None = None,
    stop: Asking | None = None,
) -> Registration:
    """Carry out a request, with a registrar that is already loaded if there is one.

    ``report(what, done, total)`` moves a progress bar, ``show`` takes a method's figures for a live
    panel. ``stop`` is entered while a method that is ``stoppable`` works, and gives what tells
    whether the user wants the best it has so far.
    """
    with limited_threads(request.threads):
        return _run(request, registrar, report, show, stop)


def _run(
    request: Request,
    registrar: Registrar | None,
    report: Report | None,
    show: Show | None,
    stop: Asking | None,
) -> Registration:
    check_report(request)
    task = open_task(request)
    if registrar is None:
        with task.clock("load"):
            registrar = load(task.request, task.ndim)
    prepared = prepare(task, registrar)
    if stop is None or "stoppable" not in registrar.method.capabilities:
        stop = nullcontext(lambda: False)
    with task.clock("network"), stop as asked:
        steps = None if report is None else partial(report, "register")
        prediction = registrar.predict(prepared, Watch(steps, show, asked))
    result = finish(task, registrar, prepared, prediction, report)
    write_report(request, result.outputs)
    return result


def plan_prefix(request: Request) -> str:
    """The prefix used when none is given: ``<moving>_to_<fixed>_`` in the current folder."""

    def stem(source: Source, word: str) -> str:
        if not isinstance(source, str | Path):
            return word
        name = Path(source).name
        for suffix in (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr"):
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
        return Path(source).stem

    return f"{stem(request.moving, 'moving')}_to_{stem(request.fixed, 'fixed')}_"
