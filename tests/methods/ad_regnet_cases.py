"""Small networks of AD-RegNet and images for them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from regtool_ad_regnet.network import ADRegNet

TINY = {"widths": (4, 8, 8), "gate": 4, "patch": 8, "cap": 64, "window": 2}
AIDED = {
    **TINY, "fusion": "compose", "guided": True, "compare": 4, "offsets": True,
    "soft_regions": True, "integrate": 2,
}  # fmt: skip
SHAPE = (8, 12, 16)


def tiny(**switches) -> ADRegNet:
    torch.manual_seed(0)
    return ADRegNet(**{**TINY, **switches}).eval()


def aided(**switches) -> ADRegNet:
    return tiny(**{**AIDED, **switches})


def images(shape: tuple[int, ...] = SHAPE, batch: int = 1) -> tuple[Tensor, Tensor]:
    drawn = torch.rand(2, batch, 1, *shape, generator=torch.Generator().manual_seed(1))
    fixed, moving = (functional.avg_pool3d(x, 3, 1, 1, count_include_pad=False) for x in drawn)
    return fixed, moving


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def parts(network: ADRegNet, name: str) -> list[torch.nn.Module]:
    found = [getattr(level, name) for level in network.levels]
    return [module for module in found if module is not None]
