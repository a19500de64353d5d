"""All measures of one registration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regtool.engine.evaluate import measures
from regtool.engine.evaluate.overlap import measure_overlap
from regtool.engine.evaluate.registered import Registered
from regtool.engine.evaluate.settings import Settings
from regtool.record import SUFFIX

_DEFAULT = Settings()


def evaluate_record(
    record: str | Path,
    files: Mapping[str, Path] | None = None,
    settings: Settings = _DEFAULT,
    name: str | None = None,
    run: str = "",
) -> dict[str, Any]:
    """Measure the registration of a record; plain data, ready for JSON.

    ``files`` replace or add to what the record names: ``fixed``, ``moving``, ``fixed_labels``,
    ``moving_labels``, ``fixed_points``, ``moving_points``. The numbers are in ``after`` (and in
    ``before``, for the images as they were), one a key: ``dice`` is the mean over structures,
    ``dice:LV`` that of one. Distances are in mm. ``details`` has what belongs to them, ``notes``
    sentences for the user. ``run`` is the group in which this record is summarised.
    Raises InputError or GeometryError in one line when a file is missing, changed or does not fit.
    """
    pair = Registered(record, files)
    numbers = measures.Numbers()
    mask = measures.fixed_mask(pair, settings)
    measure_overlap(pair, settings, numbers)
    measures.measure_landmarks(pair, settings, numbers)
    measures.measure_images(pair, settings, mask, numbers)
    measures.measure_field(pair, settings, mask, numbers)
    measures.measure_inverse(pair, settings, numbers)
    measures.measure_seconds(pair, settings, numbers)
    return {
        "name": name if name is not None else record_name(pair.path),
        "run": run,
        **pair.facts(),
        "before": numbers.before,
        "after": numbers.after,
        "details": numbers.details,
        "notes": numbers.notes,
    }


def record_name(path: Path) -> str:
    """What to call the registration of ``PREFIX_regtool.json``: its prefix, or its folder."""
    return path.name.removesuffix(SUFFIX).rstrip("_-.") or path.absolute().parent.name
