"""Overlap and surface distances of the structures of a registration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.engine.companions import off_grid
from regtool.engine.device import choose_device
from regtool.engine.evaluate.measures import Numbers
from regtool.engine.evaluate.registered import Registered
from regtool.engine.evaluate.settings import OVERLAP, Settings
from regtool.errors import GeometryError, InputError
from regtool.imaging.gridded import on_grid
from regtool.imaging.reading import read_labels
from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.metrics.dice import dice_groups
from regtool.metrics.indexing import label_values
from regtool.metrics.regions import REGIONS, Structures
from regtool.metrics.surface import group_surfaces
from regtool.words import either


def measure_overlap(pair: Registered, settings: Settings, numbers: Numbers) -> None:
    """Dice, HD95 and surface Dice of every structure, and their means.

    The labels of the moving image are resampled once, through the whole chain. Structures that are
    empty in both maps do not count (METHODS 2.5); where one map lacks a structure, Dice and surface
    Dice are 0 and the distance is infinite, and left out of the mean.
    """
    if not any(settings.wants(name) for name in OVERLAP):
        return
    one, other = (pair.companion(name) for name in ("fixed_labels", "moving_labels"))
    if one is None or other is None:
        if settings.demands(OVERLAP):
            raise InputError(f"{pair.path}: give --fixed-labels and --moving-labels to compare")
        return
    fixed, moving = (read_labels(file) for file in (one, other))
    for volume in (fixed, moving):
        if volume.ndim != pair.grid.ndim:
            raise GeometryError(
                f"{volume.name}: is {volume.ndim}-D, {pair.path} {pair.grid.ndim}-D"
            )
    if not fixed.grid.same_as(pair.grid):
        numbers.notes.append(off_grid(fixed.name, "fixed"))
    target = on_grid(fixed, pair.grid)
    structures = _structures(target, moving, settings)
    device = choose_device(settings.device)
    how = settings.label_interpolation
    before = resample(moving, pair.grid, interpolation=how, device=device)
    after = resample(moving, pair.grid, pair.chain, how, device=device)
    for found, labels in ((numbers.before, before), (numbers.after, after)):
        found |= _scores(target, labels, pair.grid.spacing[::-1], structures, settings)
    numbers.details["labels"] = {
        "fixed": str(one), "moving": str(other), "interpolation": how,
        "structures": {name: list(members) for name, members in structures.items()},
    }  # fmt: skip
    if settings.structures is not None:
        there = _labels(target, moving)
        asked = {label for members in structures.values() for label in members}
        numbers.details["labels"]["absent"] = sorted(asked - there)
    missing = [n for n in structures if np.isinf(numbers.after.get(f"hd95:{n}", 0.0))]
    if missing:
        numbers.notes.append(f"in one map only: {', '.join(missing)}; mean HD95 leaves them out")


def _structures(fixed: NDArray[Any], moving: Volume, settings: Settings) -> Structures:
    """The structures asked for, or every label that is there."""
    if settings.structures is not None:
        return settings.structures
    return {settings.names.get(v, str(v)): (v,) for v in sorted(_labels(fixed, moving) - {0})}


def _labels(fixed: NDArray[Any], moving: Volume) -> set[int]:
    """The labels of both maps."""
    return {v for x in (fixed, moving.array) for v in label_values(x)}


def unmeasured(pairs: Sequence[dict[str, Any]], settings: Settings) -> list[str]:
    """Sentences about structures and names that were asked for and that no label map has.

    ``pairs`` as from ``evaluate_record``. Of ``--regions`` a few may lack; then nothing is said.
    """
    wanted = settings.structures is not None or bool(settings.names)
    if not pairs or not wanted or not any(settings.wants(name) for name in OVERLAP):
        return []
    found = [pair["details"]["labels"] for pair in pairs if "labels" in pair["details"]]
    if not found:
        return ["no structure is measured: the records name no label maps of both images; "
                "give --fixed-labels and --moving-labels"]  # fmt: skip
    if settings.structures is None:
        there = {v for labels in found for (v,) in labels["structures"].values()}
        return (
            [] if there & set(settings.names) else ["no label map has a label that --names names"]
        )
    absent = set.intersection(*(set(labels["absent"]) for labels in found))
    structures = settings.structures
    of_regions = {n for r in REGIONS.values() if r.items() <= structures.items() for n in r}
    sentences = []
    if of_regions and all(set(structures[n]) <= absent for n in of_regions):
        labels = sorted({v for n in of_regions for v in structures[n]})
        sentences.append(f"no label map has {either(labels)} (--regions)")
    for name, members in structures.items():
        lacking = [v for v in members if v in absent]
        if lacking and name not in of_regions:
            sentences.append(f"no label map has {either(lacking)} (group {name})")
    return sentences


def _scores(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    spacing: tuple[float, ...],
    structures: Structures,
    settings: Settings,
) -> dict[str, float]:
    found: dict[str, dict[str, float]] = {}
    if settings.wants("dice"):
        found["dice"] = dice_groups(fixed, moving, structures)
    if settings.wants("hd95") or settings.wants("surface_dice"):
        surfaces = group_surfaces(fixed, moving, spacing, structures)
        if settings.wants("hd95"):
            found["hd95"] = {name: s.hausdorff(95.0) for name, s in surfaces.items()}
        if settings.wants("surface_dice"):
            found["surface_dice"] = {
                name: s.surface_dice(settings.tolerance) for name, s in surfaces.items()
            }
    scores: dict[str, float] = {}
    for metric, values in found.items():
        finite = [v for v in values.values() if np.isfinite(v)]
        if finite:
            scores[metric] = float(np.mean(finite))
        scores |= {f"{metric}:{name}": value for name, value in values.items()}
    return scores
