"""Finished registrations with known numbers: a shift by whole voxels, written as register does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from registration_cases import make_grid, points_of, save, write_csv

from regtool.imaging.reading import read_image
from regtool.imaging.writing import Outputs
from regtool.record import describe_image
from regtool.spatial.grid import Grid

GRID = make_grid("oblique", (20, 18, 8), (2.0, 1.5, 4.0))
SHIFT = np.array((2, -1, 1))
"""Of the moving image against the fixed one, in voxels (x, y, z)."""


def blocks(seed: int, shift=(0, 0, 0)) -> np.ndarray:
    """A label map (*shape): boxes of labels 1, 2 and 3 whose sizes depend on the seed."""
    x, y, z = shift
    labels = np.zeros(GRID.shape, np.uint8)
    depth = 3 + seed % 2
    labels[2 + z : 2 + depth + z, 4 + y : 12 + y, 4 + x : 8 + x] = 1
    labels[2 + z : 2 + depth + z, 4 + y : 9 + seed % 3 + y, 8 + x : 13 + x] = 2
    labels[3 + z : 5 + z, 5 + y : 8 + y, 9 + x : 12 + x] = 3
    return labels


def picture(labels: np.ndarray, seed: int) -> np.ndarray:
    """An image that goes with a label map."""
    noise = np.random.default_rng(seed).standard_normal(labels.shape)
    return (labels * 300.0 + 5 * noise).astype(np.float32)


def write_case(folder: Path, seed: int = 0, part: float = 1.0, name: str | None = None) -> Path:
    """Write images, labels, landmarks and the record of a registration; return the record.

    The field is ``part`` of the true shift; moving landmarks lie 3 mm off the true ones in x.
    The images depend on the seed alone, and are the same files for all records of a folder.
    """
    name = name or f"pair{seed}_"
    truth = GRID.direction_matrix @ (SHIFT * np.array(GRID.spacing))
    files = {
        "fixed": (picture(blocks(seed), seed), GRID),
        "moving": (picture(blocks(seed, SHIFT), seed + 100), GRID),
        "fixed_labels": (blocks(seed), GRID),
        "moving_labels": (blocks(seed, SHIFT), GRID),
    }
    paths = {key: folder / "images" / f"{seed}_{key}.nii.gz" for key in files}
    for key, (values, grid) in files.items():
        if not paths[key].exists():
            save(paths[key], values, grid)
    spots = points_of(GRID)[2:6:2, 3:15:4, 3:15:4].reshape(-1, 3)
    for key, values in (("fixed", spots), ("moving", spots + truth + (3.0, 0.0, 0.0))):
        paths[f"{key}_points"] = folder / "images" / f"{seed}_{key}_points.csv"
        write_csv(paths[f"{key}_points"], values)
    field = np.broadcast_to((part * truth).astype(np.float32), (*GRID.shape, 3))
    warped = (
        np.roll(files["moving"][0], -SHIFT[::-1], (0, 1, 2)) if part == 1 else files["moving"][0]
    )
    return write_record(folder / name, paths, field, -field, warped, GRID)


def write_record(prefix: Path, paths: dict[str, Path], field, inverse, warped, grid: Grid) -> Path:
    """Write outputs and the record of a registration without affine."""
    fixed, moving = (read_image(paths[key]) for key in ("fixed", "moving"))
    record = {
        "schema": 1,
        "kind": "registration",
        "method": {"name": "toy"},
        "fixed": describe_image(fixed),
        "moving": describe_image(moving),
        "companions": {key: str(path) for key, path in paths.items() if "_" in key},
        "seconds": {"network": 0.5, "total": 2.0},
    }
    names = ("Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat", "1InverseWarp.nii.gz")
    with Outputs(str(prefix), names, overwrite=True) as outputs:
        outputs.image(names[0], warped, like=fixed)
        outputs.field(names[1], field, grid)
        outputs.affine(names[2], np.eye(4))
        outputs.field(names[3], inverse, grid)
        digests = outputs.digests()
        record["outputs"] = {
            name: {"file": prefix.name + name, "sha256": digests[name]} for name in names
        }
        outputs.record(record)
    return Path(f"{prefix}regtool.json")
