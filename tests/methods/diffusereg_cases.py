"""What the tests of DiffuseReg share: a tiny network and smooth pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from regtool.api import Context, Pair, Sample
from regtool_diffusereg.model import DiffuseReg
from regtool_diffusereg.presets import DIFFUSEREG

TINY = {"width": 4, "heads": (1, 2, 2, 4)}
PAPER = DIFFUSEREG["paper"]["training"]
SHAPE = (8, 12, 16)
COARSE = {"scale": (1, 2, 2), "streams": True, "images": True}
LENGTH = (2.0, 3.0, 3.0)


def tiny(predicts: str = "noise", **switches) -> DiffuseReg:
    torch.manual_seed(0)
    statistics = {"mean": (0.1, -0.2, 0.3), "std": (0.5, 1.0, 2.0)}
    return DiffuseReg({**TINY, **switches}, predicts, LENGTH, **statistics).eval()  # type: ignore[arg-type]


def context(seed: int = 0) -> Context:
    return Context(torch.Generator().manual_seed(seed), torch.device("cpu"), training=True)


def smooth(*shape: int, seed: int = 1) -> Tensor:
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return functional.avg_pool3d(drawn, 5, 1, 2, count_include_pad=False)


def pair_of(shape: tuple[int, ...] = SHAPE, batch: int = 2) -> Pair:
    """Smooth random images with a smooth random field of a voxel or so."""
    moving, fixed = smooth(batch, 2, *shape).split(1, 1)
    field = 8 * (smooth(batch, 3, *shape, seed=2) - 0.5)
    spacing = (6.0, 2.0, 2.0)
    return Pair(Sample(fixed, spacing), Sample(moving, spacing), field)
