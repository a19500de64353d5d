"""Convolutions of 2-D and 3-D networks that are written once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.nn.precision import wrong_in_bfloat16

_WIDE = 16
_LEAST = 20480
"""B C D H above which torch leaves the slow path in float32 with one thread."""


def convolution(
    ndim: int, inputs: int, outputs: int, size: int = 3, stride: int = 1
) -> nn.Conv2d | nn.Conv3d:
    """A convolution that keeps the size at stride 1 and halves even sizes at stride 2."""
    layer = nn.Conv3d if ndim == 3 else nn.Conv2d
    return layer(inputs, outputs, size, stride=stride, padding=size // 2)


def double(x: Tensor) -> Tensor:
    """Twice the size by repeating voxels."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def narrow_convolution(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` for a 3 x 3 x 3 ``layer``, with channels of zeros up to 16 on the CPU in 3-D.

    With fewer, torch 2.13 takes the slow path of ``hasten_convolutions`` even for large images.
    """
    missing = _WIDE - x.shape[1]
    if x.dim() != 5 or x.device.type != "cpu" or missing <= 0:
        return layer(x)
    assert isinstance(layer, nn.Conv3d)
    x = torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], 1)
    weight = functional.pad(layer.weight, (0, 0, 0, 0, 0, 0, 0, missing))
    return _conv3d(x, weight, layer)


def quick_convolution(layer: nn.Conv3d, x: Tensor, padding: int | tuple[int, int, int]) -> Tensor:
    """``layer`` with another padding, at stride 1, with two precautions on the CPU (torch 2.13).

    Few channels, or few voxels with one thread, make it take a path several times slower, from
    which channels of zeros lead away. An axis of two voxels leaves bfloat16, whose gradient is
    wrong there (``regtool.nn.precision``).
    """
    weight = layer.weight
    if x.device.type != "cpu":
        return functional.conv3d(x, weight, layer.bias, padding=padding)
    if wrong_in_bfloat16(x):
        with torch.autocast("cpu", enabled=False):
            return functional.conv3d(x.float(), weight, layer.bias, padding=padding)
    missing = _company(x)
    if missing > 0:
        x = torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], 1)
        weight = functional.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing))
    return functional.conv3d(x, weight, layer.bias, padding=padding)


def _company(x: Tensor) -> int:
    """Channels of zeros that make a convolution of ``x`` faster, by torch's own rule."""
    batch, channels, depth, high = x.shape[:4]
    if channels == 1:
        return 0
    wanted = _WIDE
    if torch.get_num_threads() == 1 and not torch.is_autocast_enabled("cpu"):
        enough = _LEAST // (batch * depth * high) + 1
        wanted = max(wanted, enough if enough <= max(3 * channels, 2 * _WIDE) else 0)
    return max(wanted - channels, 0)


def hasten_convolutions(module: nn.Module) -> None:
    """Make every ``nn.Conv3d`` in ``module`` turn a lone image so that the CPU is quick with it.

    On the CPU torch 2.13 gives a float32 convolution of a single image to oneDNN only where
    channels x depth x height are more than 20480; else it unfolds the image first, which takes up
    to ten times as long (16 to 16 channels on 16 x 64 x 64, one core: 105 against 9 ms, its
    gradient 228 against 21 ms). The width does not count, so that turning the shortest axis there
    is often enough. Results agree up to rounding. Calling it twice does no harm.
    """
    for layer in module.modules():
        if type(layer) is nn.Conv3d:
            layer.__class__ = _Turning


class _Turning(nn.Conv3d):
    """A convolution that turns its image where that pays."""

    def forward(self, input: Tensor) -> Tensor:
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super().forward(input)
        return _conv3d(input, self.weight, self)


def _conv3d(x: Tensor, weight: Tensor, layer: nn.Conv3d) -> Tensor:
    """``layer`` with another ``weight``: a convolution whose axes are turned where that pays."""
    assert not isinstance(layer.padding, str)
    options = (layer.stride, layer.padding, layer.dilation)
    order = _order(x) if max(layer.kernel_size) > 1 and layer.groups == 1 else None
    if order is None:
        return functional.conv3d(x, weight, layer.bias, *options, layer.groups)
    there = (0, 1, *(2 + axis for axis in order))
    back = (0, 1, *(2 + order.index(axis) for axis in range(3)))
    x, weight = (tensor.permute(there).contiguous() for tensor in (x, weight))
    stride, padding, dilation = ([option[axis] for axis in order] for option in options)
    turned = functional.conv3d(x, weight, layer.bias, stride, padding, dilation)
    return turned.permute(back).contiguous()


def _order(x: Tensor) -> tuple[int, ...] | None:
    """Spatial axes, the longest first, if oneDNN takes the image in that order but not as it is."""
    lone = x.dim() == 5 and x.shape[0] == 1 and x.device.type == "cpu"
    if not lone or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return None
    channels, *size = x.shape[1:]
    order = tuple(sorted(range(3), key=lambda axis: -size[axis]))
    as_it_is, turned = size[0] * size[1], size[order[0]] * size[order[1]]
    return order if channels * as_it_is <= _LEAST < channels * turned else None
