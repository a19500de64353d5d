"""Pickles as numpy 1 and 2 and Python 2 wrote them, and pickles that attack."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GLOBAL_NUMPY = b"cnumpy\ndtype\n"


def binary_string(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def python2_array(shape: tuple[int, ...], code: str, raw: bytes) -> bytes:
    """Protocol 2 as Python 2 and numpy 1 wrote it, without STOP: bytes are strings."""
    sizes = b"".join(b"J" + struct.pack("<i", n) for n in shape)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01(" + sizes + b"t" + GLOBAL_NUMPY + b"U" + bytes([len(code)]) + code.encode()
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )  # fmt: skip


def brain_arrays(seed: int, shape: tuple[int, int, int] = (10, 12, 14)) -> tuple[NDArray, NDArray]:
    """An image in [0, 1] and labels 0 to 3, indexed as the distributed volumes are."""
    x, y, z = np.mgrid[: shape[0], : shape[1], : shape[2]]
    radius = np.hypot(np.hypot(x - 4 - seed % 2, y - 6), z - 7 + seed % 3)
    labels = np.digitize(-radius, (-5, -3.5, -2))
    noise = np.random.default_rng(seed).uniform(0, 0.05, shape)
    return np.where(labels > 0, labels / 4 + noise, 0).astype(np.float32), labels.astype(np.int16)


def dump(path: Path, *arrays: NDArray, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    return path
