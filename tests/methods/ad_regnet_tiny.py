"""A tiny AD-RegNet, a pair for it, and its registrations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from regtool.api import Context, Pair, Prediction, Sample
from regtool_ad_regnet.model import Registration
from regtool_ad_regnet.network import ADRegNet
from regtool_ad_regnet.options import ADRegNetOptions

TINY = {"widths": (4, 8, 8), "gate": 4, "patch": 8, "cap": 64, "window": 2}
EXTRAS = ("levels", "attention", "entropy", "jacobian", "uncertainty")


def tiny(**switches) -> Registration:
    torch.manual_seed(0)
    return Registration(ADRegNet(**{**TINY, **switches})).eval()


def options(**given) -> ADRegNetOptions:
    return ADRegNetOptions(**given)


def pair_of(shape: tuple[int, ...] = (8, 12, 15), **fixed) -> Pair:
    drawn = torch.rand(2, 1, 1, *shape, generator=torch.Generator().manual_seed(1))
    f, m = (functional.avg_pool3d(x, 3, 1, 1, count_include_pad=False) for x in drawn)
    spacing = (1.0, 1.0, 1.0)
    return Pair(Sample(f, spacing, **fixed), Sample(m, spacing))


def registered(module: Registration, pair: Pair, seed: int = 0, **given) -> Prediction:
    context = Context(torch.Generator().manual_seed(seed), torch.device("cpu"))
    with torch.no_grad():
        return module(pair, options(**given), context)


def total(prediction: Prediction) -> Tensor:
    assert prediction.displacement is not None
    return prediction.displacement
