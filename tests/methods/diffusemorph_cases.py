"""A small DiffuseMorph and the pairs that its tests register."""

from __future__ import annotations

import torch

from regtool.api import Context, Pair, Sample
from regtool_diffusemorph.model import DiffuseMorph


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(ndim: int, integrate: int = 0) -> DiffuseMorph:
    torch.manual_seed(0)
    return DiffuseMorph(
        ndim, {"width": 8, "groups": 4, "attention": "linear"}, {"flow_init": 0.02}, integrate
    )


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)


def blobs(shape: tuple[int, ...] = (64, 64)) -> Pair:
    """A disc that shrinks: an overfitting exercise with labels."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = sum(a**2 for a in axes).sqrt()

    def sample(size: float) -> Sample:
        disc = (radius < size).long()
        soft = torch.sigmoid((size - radius) * 20) * 0.8 + 0.1
        return Sample(soft[None, None], (1.0,) * len(shape), labels=disc[None, None])

    return Pair(sample(0.45), sample(0.65))
