"""What the tests of VTN share: small networks and pairs."""

from __future__ import annotations

import torch
from torch.nn import functional

from regtool.api import Context, Pair, Sample
from regtool_vtn.model import VTN
from regtool_vtn.presets import VTN as PRESETS

PAPER = PRESETS["paper"]["training"]
NARROW = (4, 4, 8, 8)


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def context() -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)


def small(ndim: int = 3, **network) -> VTN:
    torch.manual_seed(0)
    return VTN(ndim, **{"widths": NARROW, **network})


def lively(ndim: int = 3, **network) -> VTN:
    """A network whose affine and fields are large enough to tell right from wrong."""
    model = small(ndim, flow_init=None, **network)
    with torch.no_grad():
        model.affine.head.linear.weight.normal_(0.0, 0.3)
        model.affine.head.linear.bias.normal_(0.0, 0.5)
    return model


def pair_of(shape: tuple[int, ...], batch: int = 1) -> Pair:
    """Two smooth random images."""
    draws = torch.Generator().manual_seed(1)
    pool = functional.avg_pool2d if len(shape) == 2 else functional.avg_pool3d
    images = torch.rand(2, batch, 1, *shape, generator=draws)
    return Pair(*(Sample(pool(x, 5, 1, 2), (2.0,) * len(shape)) for x in images))


def balls() -> Pair:
    """A ball that grows: an overfitting exercise with labels."""
    axes = [torch.linspace(-1, 1, 16)] * 3
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()

    def sample(edge: float) -> Sample:
        soft = torch.sigmoid((edge - radius) * 20) * 0.8 + 0.1
        return Sample(soft[None, None], (1.0,) * 3, labels=(radius < edge).long()[None, None])

    return Pair(sample(0.4), sample(0.65))
