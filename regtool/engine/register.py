"""Registration of one pair, from files (or Volumes) to files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from regtool.engine.device import limited_threads
from regtool.engine.preflight import check_request
from regtool.engine.registrar import Preview, Registrar, Watch
from regtool.engine.reports import check_report, check_report_words, write_report
from regtool.engine.request import Request, Source
from regtool.engine.task import Registration, Report, finish, load, open_task, prepare
from regtool.errors import UsageError
from regtool.imaging.destination import image_stem
from regtool.imaging.itk import as_volume
from regtool.plugins import discovery
from regtool.plugins.exchange import Prediction

__all__ = ["Registration", "plan_prefix", "register", "run"]


def register(
    fixed: Source | sitk.Image,
    moving: Source | sitk.Image,
    method: str = "voxelmorph",
    *,
    preview: Preview | None = None,
    **options: Any,
) -> Registration:
    """Register ``moving`` to ``fixed``; the Python form of ``regtool register``.

    Images, masks and label maps are files, SimpleITK images, or ``regtool.Volume(array, grid)``.
    ``options`` are the fields of ``Request``, among them ``output`` (a prefix; nothing is written
    without one), ``weights``, ``initial``, ``device``, ``settings={name: value}``.

    ``preview(step, prediction)`` is called while a method with the capability ``previews`` works,
    with what it would answer then: ``prediction.displacement`` is (B, ndim, *S) in voxels of the
    method's grid, component i along tensor axis i. A False answer ends the work, and the result is
    made from what there is; True or None lets it go on. Of a volume that goes slice by slice each
    32 slices are worked on, and shown, by themselves.

    Raises the errors of ``regtool.errors``, as the command line does, and UsageError for a
    ``preview`` that the method would not call.
    """
    given = {name: as_volume(value) for name, value in options.items()}
    try:
        request = Request(as_volume(fixed), as_volume(moving), method, **given)
    except TypeError as error:
        raise UsageError(f"register(): {error}") from error
    return run(request, preview=preview)


Show = Callable[[Mapping[str, float]], None]
Asking = AbstractContextManager[Callable[[], bool]]


def run(
    request: Request,
    registrar: Registrar | None = None,
    report: Report | None = None,
    show: Show | None = None,
    stop: Asking | None = None,
    preview: Preview | None = None,
    stage: Callable[[str], None] | None = None,
) -> Registration:
    """Carry out a request, with a registrar that is already loaded if there is one.

    ``report(what, done, total)`` moves a progress bar, ``show`` takes a method's figures for a live
    panel. ``stop`` is entered while a method that is ``stoppable`` works, and gives what tells
    whether the user wants the best it has so far. ``preview`` is as for ``register``;
    ``stage(name)`` hears of each part of the work as it begins.
    """
    with limited_threads(request.threads):
        return _run(request, registrar, report, show, stop, preview, stage)


def _run(
    request: Request,
    registrar: Registrar | None,
    report: Report | None,
    show: Show | None,
    stop: Asking | None,
    preview: Preview | None,
    stage: Callable[[str], None] | None,
) -> Registration:
    check_report_words(request)
    method = discovery.load(request.method)
    if preview is not None and "previews" not in method.capabilities:
        raise UsageError(f"preview: method '{request.method}' shows nothing while it works")
    check_request(request, method)
    task = open_task(request, method=method, stage=stage, loaded=registrar is not None)
    check_report(request)
    if registrar is None:
        with task.clock("load"):
            registrar = load(task.request, task.ndim)
    prepared = prepare(task, registrar)
    if preview is not None and prepared.tile is not None:
        raise UsageError(f"preview: '{request.method}' goes tile by tile and never sees the whole")
    seen = None if preview is None else _unless_false(preview)
    if stop is None or "stoppable" not in registrar.method.capabilities:
        stop = nullcontext(lambda: False)
    with task.clock("network"), stop as asked:
        steps = None if report is None else partial(report, "register")
        prediction = registrar.predict(prepared, Watch(steps, show, asked, seen))
    result = finish(task, registrar, prepared, prediction, report)
    write_report(request, result.outputs)
    return result


def _unless_false(preview: Preview) -> Preview:
    """A preview that answers nothing lets the method go on."""

    def answered(step: int, prediction: Prediction) -> bool:
        answer: object = preview(step, prediction)
        return answer is None or bool(answer)

    return answered


def plan_prefix(request: Request) -> str:
    """The prefix used when none is given: ``<moving>_to_<fixed>_`` in the current folder."""

    def stem(source: Source, word: str) -> str:
        return image_stem(source) if isinstance(source, str | Path) else word

    return f"{stem(request.moving, 'moving')}_to_{stem(request.fixed, 'fixed')}_"
