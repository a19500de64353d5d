"""What a cohort would do, found out without computing or writing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regtool.engine.cohort.plan import Item
from regtool.engine.cohort.run import Cohort
from regtool.engine.dryrun import Ready, rehearse_method
from regtool.engine.preflight import check_device, check_needs
from regtool.engine.request import Request, refuse_ignored, refuse_ignored_roi, slice_axis
from regtool.errors import RegtoolError
from regtool.imaging.reading import read_image
from regtool.paths import is_file
from regtool.plugins import discovery
from regtool.plugins.description import Method


def rehearse(cohort: Cohort) -> dict[str, Any]:
    """Which pairs are to do, complete, or would fail and why; and what the method works with.

    All files must be there; images are read until one says which dimension the method needs. What
    would stop all pairs alike is raised: UsageError, DeviceError, WeightsError, PluginError.
    """
    template, method = cohort.template, discovery.load(cohort.template.method)
    failing = {item.name: item.error for item in cohort.items if item.error is not None}
    to_do = [item for item in cohort.items if not item.complete and item.error is None]
    for item in to_do:
        missing = {str(path) for path in item.request.paths() if not is_file(path)}
        if missing:
            failing[item.name] = f"{', '.join(sorted(missing))}: no such file"
    facts: dict[str, Any] = {"device": check_device(template)}
    ready = _ready(method, template, [i for i in to_do if i.name not in failing], failing)
    if ready is not None:
        facts = ready.facts
        for item in to_do:
            if item.name not in failing:
                _check_companions(method, item, ready, failing)
    return {
        "folder": str(cohort.folder),
        "method": method.name,
        **facts,
        "to_do": [item.name for item in to_do if item.name not in failing],
        "complete": [item.name for item in cohort.items if item.complete],
        "failing": failing,
    }


def _ready(
    method: Method, template: Request, items: list[Item], failing: dict[str, str]
) -> Ready | None:
    """The method for the first pair whose fixed image can be read; those before it are failing."""
    for item in items:
        try:
            fixed = read_image(Path(str(item.request.fixed)))
            slices = slice_axis(fixed, method, template.slices)
        except RegtoolError as error:
            failing[item.name] = str(error)
            continue
        return rehearse_method(
            method, template, 2 if slices is not None else fixed.ndim, fixed.ndim
        )
    return None


def _check_companions(method: Method, item: Item, ready: Ready, failing: dict[str, str]) -> None:
    try:
        refuse_ignored(method, item.request)
        check_needs(item.request, ready.options)
        if ready.preparation is not None:
            refuse_ignored_roi(method, item.request, ready.preparation)
    except RegtoolError as error:
        failing[item.name] = str(error)
