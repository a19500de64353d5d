"""Starting a 3-D network from a 2-D one of the same form that was trained on slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ENCODER_TAPS = (0.25, 0.5, 0.25)
"""Strided convolutions see every other slice, so they start as a smoothing across slices."""


@torch.no_grad()
def inflate(flat: nn.Module, solid: nn.Module) -> None:
    """Copy the weights of ``flat`` (2-D) into ``solid`` (3-D), which has the same names.

    Kernels (O, I, 3, 3) become the middle slice of (O, I, 3, 3, 3), those of the encoder are spread
    over three slices; the outputs for z, which 2-D heads lack, keep what ``solid`` has. The idea of
    inflating 2-D networks is Carreira and Zisserman's (CVPR 2017).
    """
    source = dict(flat.named_parameters())
    for name, target in solid.named_parameters():
        taps = _ENCODER_TAPS if ".down." in f".{name}" else (0.0, 1.0, 0.0)
        _copy(source[name], target, taps)


def _copy(flat: Tensor, solid: Tensor, taps: tuple[float, ...]) -> None:
    first = solid.shape[0] - flat.shape[0]  # 1 for heads: z comes first
    if solid.dim() == 1:
        solid[first:] = flat
        return
    weights = solid.new_tensor(taps)[:, None, None]
    solid[first:] = flat[:, :, None] * weights
