"""Seeds as pure functions of the place in the training, so that resuming needs no state."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *place: str | int) -> int:
    """A 63-bit seed for one place in the training, such as (stage, "step", 12, rank)."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_globally(value: int) -> None:
    """Seed Python, NumPy and torch (CPU and every CUDA device): dropout and strangers' code."""
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 (the global state is what has to be seeded)
    torch.manual_seed(value)


def permutation(count: int, seed: int, *place: str | int) -> list[int]:
    """A permutation of range(count) that depends on the seed and the place only."""
    generator = torch.Generator().manual_seed(derive(seed, *place))
    return torch.randperm(count, generator=generator).tolist()
