"""A pair, a field and the terms of AD-RegNet's loss for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Pair, Sample
from regtool_ad_regnet.loss import ADRegNetLoss
from regtool_ad_regnet.network import Fields
from regtool_ad_regnet.presets import AD_REGNET

SHAPE = (10, 12, 14)
NONE = {"ncc": 0.0, "ssim": 0.0, "local_ncc": 0.0, "mse": 0.0, "mind": 0.0}
PAPER: dict[str, Any] = dict(AD_REGNET["paper"]["training"])


class Toy(nn.Module):
    """A network of AD-RegNet's form that answers one field, whatever it sees."""

    def __init__(self, field: Tensor) -> None:
        super().__init__()
        self.field, self.seen = nn.Parameter(field), []

    def network(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Any:
        self.seen.append((fixed, moving, mask))
        return Fields(self.field, (), ())


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def a_pair() -> Pair:
    points = [drawn(1, 6, 3, seed=k) * 9 for k in (5, 6)]
    fixed, moving = (
        Sample(drawn(1, 1, *SHAPE, seed=k), (3.0, 1.0, 1.5), points=points[k]) for k in (0, 1)
    )
    return Pair(fixed, moving, drawn(1, 3, *SHAPE, seed=7))


def a_field() -> Tensor:
    return 1.5 * (drawn(1, 3, *SHAPE, seed=2) - 0.5)


def terms(pair: Pair, field: Tensor, **changes: Any) -> dict[str, float]:
    context = Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)
    output = ADRegNetLoss({**PAPER, **changes})(Toy(field), pair, context)
    return {name: float(value.detach()) for name, value in output.terms.items()}
