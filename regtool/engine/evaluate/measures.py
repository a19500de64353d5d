"""The measures of one registration, by the files that they need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regtool.engine.companions import unlike_air
from regtool.engine.device import choose_device
from regtool.engine.evaluate.registered import Registered
from regtool.engine.evaluate.settings import FIELD, IMAGES, Settings
from regtool.errors import GeometryError, InputError
from regtool.imaging.gridded import read_mask_on
from regtool.imaging.points import read_points
from regtool.imaging.resample import covered, resample, transform_points
from regtool.metrics.determinant import displacement_statistics
from regtool.metrics.inverse_consistency import inverse_consistency
from regtool.metrics.similarity import mse, ncc, nmse, psnr
from regtool.metrics.ssim import ssim
from regtool.metrics.tre import tre
from regtool.record import fill_of
from regtool.spatial.frames import linear_part
from regtool.spatial.grid import Grid

Array = NDArray[Any]

_SEEN = 1e-3
"""Share of voxels beyond the moving image that is worth a word."""


@dataclass
class Numbers:
    """What was found: one number a key, before and after, with details and remarks."""

    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def fixed_mask(pair: Registered, settings: Settings) -> Array | None:
    """The mask on the fixed grid, True inside. Raises GeometryError for one that is empty."""
    if settings.mask is None:
        return None
    return read_mask_on(settings.mask, pair.grid, str(pair.path))


def measure_images(
    pair: Registered, settings: Settings, mask: Array | None, numbers: Numbers
) -> None:
    """Similarity of the fixed image to the moving one as it was, and to the warped one."""
    wanted = [name for name in IMAGES if settings.wants(name)]
    if not wanted:
        return
    device = choose_device(settings.device)
    fixed = np.asarray(pair.fixed.array, dtype=np.float64)
    low, high = float(fixed.min()), float(fixed.max())
    scale = (high - low) or 1.0
    measures = {"ncc": ncc, "mse": mse, "nmse": nmse, "psnr": psnr, "ssim": ssim}
    unmoved = resample(pair.moving, pair.grid, default=fill_of(pair.record), device=device)
    for found, image in ((numbers.before, unmoved), (numbers.after, pair.warped)):
        one, other = fixed, np.asarray(image, dtype=np.float64)
        if settings.intensities == "unit":
            one, other = (one - low) / scale, (other - low) / scale
        for name in wanted:
            try:
                found[name] = measures[name](one, other, mask)
            except ValueError as error:
                raise GeometryError(f"{settings.mask}: {error}") from error
    fill = fill_of(pair.record)
    share = _uncovered(pair, mask, settings) if unlike_air(fill, low, high) else 0.0
    if share > _SEEN:
        numbers.notes.append(
            f"{100 * share:.2g} % of the fixed image lies beyond the moving image; the warped "
            f"image is {fill:g} there, unlike air, and image measures count that (--mask leaves it "
            "out; register --fill sets it)"
        )


def _uncovered(pair: Registered, mask: Array | None, settings: Settings) -> float:
    """The share of the fixed image's voxels (of the mask) whose points miss the moving image."""
    device = choose_device(settings.device)
    missed = ~covered(pair.moving.grid, pair.grid, pair.chain, device)
    return float((missed if mask is None else missed[mask]).mean())


def measure_landmarks(pair: Registered, settings: Settings, numbers: Numbers) -> None:
    """Distances ``|T(p_fixed) - p_moving|`` in mm before (T the identity) and after."""
    if not settings.wants("tre"):
        return
    one, other = (pair.companion(name) for name in ("fixed_points", "moving_points"))
    if one is None or other is None:
        if settings.demands(["tre"]):
            raise InputError(f"{pair.path}: tre needs --fixed-points and --moving-points")
        return
    ndim = pair.grid.ndim
    fixed, moving = (read_points(file, ndim).points for file in (one, other))
    if len(fixed) != len(moving):
        raise InputError(f"{one} has {len(fixed)} landmarks, but {other} {len(moving)}")
    index = fixed @ pair.grid.world_to_index[:-1, :-1].T + pair.grid.world_to_index[:-1, -1]
    outside = int((~((index >= -0.5) & (index < np.asarray(pair.grid.size) - 0.5)).all(1)).sum())
    if outside:
        numbers.notes.append(f"{outside} landmarks lie outside the fixed image")
    mapped = transform_points(fixed, pair.chain)
    details = {}
    for when, found, points in (
        ("before", numbers.before, fixed),
        ("after", numbers.after, mapped),
    ):
        try:
            summary = tre(points, moving)
        except ValueError as error:
            raise InputError(f"{one}: {error}") from error
        found.update(tre=summary.mean, tre_median=summary.median, tre_max=summary.max)
        details[when] = summary.as_dict()
    numbers.details["tre"] = details


def measure_field(
    pair: Registered, settings: Settings, mask: Array | None, numbers: Numbers
) -> None:
    """Folds, SD of J and of log J of the field as written; the affine is not part of it."""
    names = {"folds": "percent", "sd_jacobian": "sd", "sd_log_jacobian": "sd_log"}
    if not any(settings.wants(name) for name in FIELD):
        return
    try:
        found = displacement_statistics(_voxels(*pair.field), settings.scheme, mask)
    except ValueError as error:
        raise GeometryError(f"{settings.mask or pair.path}: {error}") from error
    values = found.as_dict()
    numbers.after |= {name: values[names[name]] for name in FIELD if settings.wants(name)}
    numbers.details["jacobian"] = {"differences": settings.scheme, **values}


def measure_inverse(pair: Registered, settings: Settings, numbers: Numbers) -> None:
    """There and back through field and inverse, where the record lists an inverse."""
    if not settings.wants("inverse_error"):
        return
    if pair.inverse is None:
        if settings.demands(["inverse_error"]):
            raise InputError(f"{pair.path}: lists no inverse; register with --inverse")
        return
    there, back = _voxels(*pair.field), _voxels(pair.inverse, pair.grid)
    try:
        found = inverse_consistency(there, back, pair.grid.spacing[::-1])
    except ValueError as error:
        raise GeometryError(f"{pair.path}: {error}") from error
    numbers.after |= {"inverse_error": found.mean, "inverse_error_max": found.max}
    numbers.details["inverse"] = found.as_dict()


def measure_seconds(pair: Registered, settings: Settings, numbers: Numbers) -> None:
    """How long the registration took, from its record."""
    total = pair.section("seconds").get("total")
    if settings.wants("seconds") and isinstance(total, int | float):
        numbers.after["seconds"] = float(total)


def _voxels(values: NDArray[np.float32], grid: Grid) -> torch.Tensor:
    """A field (*S, ndim) in LPS mm as a displacement (ndim, *S) in voxels of its own grid."""
    world = torch.from_numpy(values).movedim(-1, 0)
    back = torch.linalg.inv(linear_part(grid)).to(world)
    return (back @ world.flatten(1)).reshape(world.shape)
