"""Targets: displacement fields, affine files, composite transforms."""

from __future__ import annotations

import zlib
from pathlib import Path
from random import Random

import numpy as np
from fuzz_images import ONE
from fuzz_mutation import damaged, header_fields, lines, zipped
from fuzz_seeds import Seeds
from fuzz_target import Target

from regtool.engine.apply import apply
from regtool.engine.chain import read_chain
from regtool.engine.jacobian import jacobian
from regtool.imaging.resample import transform_points
from regtool.imaging.transforms import Transform, read_affine, read_field, read_transforms

POINTS = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 3.0], [1e6, 0.0, 0.0]])


def use(transforms: list[Transform]) -> None:
    """Map points through a chain; it must stay in one dimension."""
    for transform in transforms:
        n = transform[1].ndim if isinstance(transform, tuple) else transform.shape[0] - 1
        transform_points(POINTS[:, :n], [transform])


def _field(rng: Random, seeds: Seeds) -> bytes:
    data = rng.choice(seeds.of("field2.nii", "field3.nii"))
    changed = header_fields(rng, data, ONE) if rng.random() < 0.7 else damaged(rng, data)
    if rng.random() < 0.3:  # values that are no displacement
        values = np.frombuffer(changed[352 : 352 + (len(changed) - 352) // 4 * 4], "<f4").copy()
        if len(values):
            values[rng.randrange(len(values))] = rng.choice((np.nan, np.inf, 3e38, -1e20, 1e3))
            changed = changed[:352] + values.tobytes()
    return zipped(rng, changed) if rng.random() < 0.15 else changed


def _read_field(path: Path, data: bytes) -> None:
    way = zlib.crc32(data) % 8
    if way == 0:
        jacobian(path, output="out/map.nii.gz", log=bool(len(data) % 2), overwrite=True, threads=1)
    elif way == 1:
        read_chain([str(path)], inverse=True)
    elif way == 2:
        apply(
            "fixed.nii.gz", [str(path)], output="out/applied.nii.gz", overwrite=True, device="cpu"
        )
    else:
        field, grid = read_field(path)
        assert field.shape == (*grid.shape, grid.ndim)
        use([(field, grid)])


def _affine(rng: Random, seeds: Seeds) -> bytes:
    mats, texts = seeds.of(".mat"), seeds.of("affine2.txt", "affine3.txt", ".tfm")
    if rng.random() < 0.5:
        return damaged(rng, rng.choice(mats), mats)
    text = rng.choice(texts)
    return lines(rng, text.decode()) if rng.random() < 0.7 else damaged(rng, text, texts)


def _read_affine(path: Path, data: bytes) -> None:
    right = path.with_suffix(".tfm" if data.startswith(b"#Insight") else ".mat")
    path.replace(right)
    way = zlib.crc32(data) % 4
    try:
        if way == 0:
            read_affine(right, 3)
        elif way == 1:
            use(read_chain([f"[{right},1]"]).transforms)
        elif way == 2:
            apply("fixed.nii.gz", [str(right)], reference="fixed.nii.gz", overwrite=True,
                  output="out/applied.nii.gz", device="cpu")  # fmt: skip
        else:
            use(read_transforms(right))
    finally:
        right.unlink(missing_ok=True)


def _composite(rng: Random, seeds: Seeds) -> bytes:
    sound = seeds.of(".h5")
    return damaged(rng, rng.choice(sound), sound, rounds=4)


def _read_composite(path: Path, data: bytes) -> None:
    if zlib.crc32(data) % 3 == 0:
        use(read_chain([str(path)], inverse=True).transforms)
    else:
        use(read_transforms(path))


TARGETS = (
    Target("field", _field, _read_field, "in1Warp.nii", 4, ("fixed.nii.gz",)),
    Target("affine", _affine, _read_affine, "in.transform", 3, ("fixed.nii.gz",)),
    Target("composite", _composite, _read_composite, "in.h5", 0.03),
)
