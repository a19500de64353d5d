"""Targets: images, label maps, videos and pickled arrays."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
from fuzz_mutation import damaged, header_fields, lines, zipped
from fuzz_seeds import Seeds
from fuzz_target import Target

from regtool.data.safe_pickle import read_arrays
from regtool.imaging import avi
from regtool.imaging.image_write import write_image
from regtool.imaging.reading import read_frame, read_image, read_labels, read_mask
from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.record import describe_image

ALL = ("scalar", "rgb", "series", "vector")
ONE = nib.Nifti1Header().structarr.dtype
TWO = nib.Nifti2Header().structarr.dtype
SMALL = 4096
"""Voxels of an image that is also resampled and written."""


def read_any(path: Path, data: bytes) -> None:
    """Read by one of the reading functions, and use what they give."""
    way = zlib.crc32(data) % 6
    if way == 0:
        use(read_labels(path, ALL))
    elif way == 1:
        use(read_mask(path))
    elif way == 2:
        use(read_frame(path, 1))
    else:
        use(read_image(path, ALL))


def use(volume: Volume) -> None:
    """What everybody does with an image: its grid, a description, resampling, writing."""
    grid = volume.grid
    assert volume.spatial_shape == grid.shape
    assert np.isfinite(grid.index_to_world).all(), "a grid that is not finite"
    assert np.isfinite(grid.world_to_index).all(), "a grid that cannot be inverted"
    assert grid.same_as(grid) and min(grid.spacing) > 0
    assert volume.array.dtype.kind in "iuf" and np.isfinite(volume.array).all()
    json.dumps(describe_image(volume), allow_nan=False)
    if volume.array.size > SMALL:
        return
    resample(volume, grid, [np.eye(grid.ndim + 1)], "nearest")
    if volume.kind != "vector":
        write_image(path := Path("again.nii.gz"), volume.array, grid, like=volume, kind=volume.kind)
        again = read_image(path, ALL)
        assert again.array.size == volume.array.size


def _nifti(rng: Random, seeds: Seeds) -> bytes:
    sound = seeds.of("plain2.nii", "plain3.nii", "labels.nii", "series.nii", "colour.nii")
    data = rng.choice(sound)
    if rng.random() < 0.75:
        data = header_fields(rng, data, ONE)
    return damaged(rng, data, sound) if rng.random() < 0.4 else data


def _nifti2(rng: Random, seeds: Seeds) -> bytes:
    data = header_fields(rng, seeds.bytes["nifti2.nii"], TWO)
    return damaged(rng, data) if rng.random() < 0.3 else data


def _gzip(rng: Random, seeds: Seeds) -> bytes:
    data = rng.choice(seeds.of("plain2.nii", "plain3.nii", "nifti2.nii"))
    if rng.random() < 0.5:
        data = header_fields(rng, data, ONE)
    return zipped(rng, data)


def _itk(rng: Random, seeds: Seeds) -> bytes:
    """The text header line by line, or any byte."""
    sound = seeds.of(".mha", ".nrrd")
    data = rng.choice(sound)
    if rng.random() < 0.6:
        end = _end_of_header(data)
        text = data[:end].decode("latin-1")
        return lines(rng, text) + data[end:]
    return damaged(rng, data, sound)


def _end_of_header(data: bytes) -> int:
    for mark in (b"ElementDataFile = LOCAL\n", b"\n\n"):
        if mark in data:
            return data.index(mark) + len(mark)
    return len(data) // 2


def _read_itk(path: Path, data: bytes) -> None:
    right = path.with_suffix(".nrrd" if data.startswith(b"NRRD") else ".mha")
    path.replace(right)
    try:
        read_any(right, data)
    finally:
        right.unlink(missing_ok=True)


def _avi(rng: Random, seeds: Seeds) -> bytes:
    data = seeds.bytes["video.avi"]
    if rng.random() < 0.1:  # many frames that repeat one
        start = data.index(b"movi") + 4
        data = data[:start] + data[start:] + b"00dc\0\0\0\0" * rng.choice((10, 1000, 60_000))
        data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
        at = data.index(b"movi") - 4
        return data[:at] + (len(data) - at - 4).to_bytes(4, "little") + data[at + 4 :]
    return damaged(rng, data, [data], rounds=2)


def _read_avi(path: Path, data: bytes) -> None:
    if zlib.crc32(data) % 3 == 0:
        avi.open_video(path)
        use(read_frame(path, 1))
    else:
        use(read_image(path, ALL))


def _pickle(rng: Random, seeds: Seeds) -> bytes:
    sound = seeds.of(".pkl")
    return damaged(rng, rng.choice(sound), [*sound, b"cos\nsystem\n(S'id'\ntR."], rounds=4)


def _read_pickle(path: Path, data: bytes) -> None:
    for array in read_arrays(path):
        assert array.nbytes <= 2 * len(data)


TARGETS = (
    Target("nifti header", _nifti, read_any, "in.nii", 7),
    Target("nifti-2 header", _nifti2, read_any, "in.nii", 3),
    Target("gzip stream", _gzip, read_any, "in.nii.gz", 2),
    Target("metaimage and nrrd", _itk, _read_itk, "in.itk", 11),
    Target("avi", _avi, _read_avi, "in.avi", 1.6),
    Target("pickled arrays", _pickle, _read_pickle, "in.pkl", 14),
)
