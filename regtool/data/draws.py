"""Random numbers for augmentation: on the CPU, whatever the generator's device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1), of ``shape``."""
    return torch.rand(shape, generator=generator, device=generator.device).cpu()


def symmetric(generator: torch.Generator, bound: float, *shape: int) -> Tensor:
    """Uniform numbers between -bound and bound, of ``shape``."""
    return (uniform(generator, *shape) * 2 - 1) * bound


def smooth_field(generator: torch.Generator, shape: Sequence[int], cells: float) -> Tensor:
    """A smooth random map (*shape) within [-1, 1]: about ``cells`` hills along the longest axis.

    Uniform numbers at coarse points, interpolated linearly; 2-D or 3-D.
    """
    step = max(shape) / cells
    coarse = [max(2, round(n / step) + 1) for n in shape]
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    values = symmetric(generator, 1.0, 1, 1, *coarse)
    return functional.interpolate(values, tuple(shape), mode=mode, align_corners=True)[0, 0]
