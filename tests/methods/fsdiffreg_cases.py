"""What the tests of FSDiffReg share: small networks and pairs."""

from __future__ import annotations

import torch
from torch.nn import functional

from regtool.api import Context, Pair, Sample
from regtool_fsdiffreg.model import FSDiffReg
from regtool_fsdiffreg.presets import FSDIFFREG

NATIVE = {"width": 8, "groups": 4, "attention": "linear"}
PAPER = FSDIFFREG["paper"]["training"]


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def small(ndim: int, **network) -> FSDiffReg:
    torch.manual_seed(0)
    return FSDiffReg(ndim, NATIVE, **network)


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)


def pair_of(shape: tuple[int, ...], batch: int = 1) -> Pair:
    """Two smooth random images."""
    draws = torch.Generator().manual_seed(1)
    pool = functional.avg_pool2d if len(shape) == 2 else functional.avg_pool3d
    images = torch.rand(2, batch, 1, *shape, generator=draws)
    return Pair(*(Sample(pool(x, 5, 1, 2), (2.0,) * len(shape)) for x in images))


def discs(size: int = 32) -> Pair:
    """A disc that shrinks: an overfitting exercise with labels."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    radius = (x**2 + y**2).sqrt()

    def sample(edge: float) -> Sample:
        soft = torch.sigmoid((edge - radius) * 20) * 0.8 + 0.1
        return Sample(soft[None, None], (1.0, 1.0), labels=(radius < edge).long()[None, None])

    return Pair(sample(0.4), sample(0.65))
