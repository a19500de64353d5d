"""Registration of one pair, from files (or Volumes) to files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from regtool.engine.device import limited_threads
from regtool.engine.registrar import Registrar
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


def run(
    request: Request, registrar: Registrar | None = None, report: Report | None = None
) -> Registration:
    """Carry out a request, with a registrar that is already loaded if there is one."""
    with limited_threads(request.threads):
        return _run(request, registrar, report)


def _run(request: Request, registrar: Registrar | None, report: Report | None) -> Registration:
    check_report(request)
    task = open_task(request)
    if registrar is None:
        with task.clock("load"):
            registrar = load(request, task.ndim)
    prepared = prepare(task, registrar)
    with task.clock("network"):
        steps = None if report is None else partial(report, "register")
        prediction = registrar.predict(prepared, steps)
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
