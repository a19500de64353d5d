"""A guard against wrong gradients of bfloat16 convolutions on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def protect_convolutions(module: nn.Module) -> None:
    """Make every ``nn.Conv3d`` in ``module`` leave mixed precision where its gradient is wrong.

    On the CPU the weight gradient of a bfloat16 3-D convolution of stride 1 over an axis of two
    voxels is not merely inexact but arbitrary (torch 2.13, measured: every trial off by more than
    5 %, often by 10^30; all other sizes agree with float32). Such inputs are tiny, so float32 costs
    nothing. Calling it twice does no harm.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d) and not hasattr(layer.forward, "protected"):
            layer.forward = _guarded(layer.forward)  # type: ignore[method-assign, assignment]


def wrong_in_bfloat16(x: Tensor) -> bool:
    """Whether a 3-D convolution of ``x`` (B, C, *S) has a wrong gradient in bfloat16."""
    return x.device.type == "cpu" and 2 in x.shape[2:]


def _guarded(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @functools.wraps(forward)
    def guarded(x: Tensor) -> Tensor:
        if wrong_in_bfloat16(x):
            with torch.autocast("cpu", enabled=False):
                return forward(x.float())
        return forward(x)

    guarded.protected = True  # type: ignore[attr-defined]
    return guarded
