"""Starting a 3-D network from a 2-D one of the same form that was trained on slices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MIDDLE = (0.0, 1.0, 0.0)
_HALVING = (0.25, 0.5, 0.25)
_DOUBLING = {3: (0.5, 1.0, 0.5), 4: (0.25, 0.75, 0.75, 0.25)}


@torch.no_grad()
def inflate(flat: nn.Module, solid: nn.Module, pooled: tuple[str, ...] = ()) -> None:
    """Copy the weights of ``flat`` (2-D) into ``solid`` (3-D), which has the same names.

    Kernels become the middle slice of solid ones. Those that halve are spread over three slices,
    since they see every other slice only, and so are those of ``pooled``, the name prefixes of
    convolutions before a pooling; transposed ones (3 or 4 wide, stride 2) interpolate between
    slices. Where a layer takes or gives a field, z comes first: the output for z, which 2-D heads
    lack, keeps what ``solid`` has, and the output for y and x takes nothing from z. The idea of
    inflating 2-D networks is Carreira and Zisserman's (CVPR 2017).
    """
    source = dict(flat.named_parameters())
    target: Tensor
    for name, part in solid.named_modules():
        for kind, target in part.named_parameters(prefix=name, recurse=False):
            given: Tensor = source[kind]
            if isinstance(part, nn.ConvTranspose3d) and target.dim() > 1:
                given, target = given.transpose(0, 1), target.transpose(0, 1)
            _copy(given, target, _taps(part, name.startswith(pooled)))


def _taps(part: nn.Module, pooled: bool) -> tuple[float, ...]:
    if isinstance(part, nn.ConvTranspose3d):
        return _DOUBLING[part.kernel_size[0]]
    if isinstance(part, nn.Conv3d):
        if part.kernel_size[0] == 1:
            return (1.0,)
        return _HALVING if pooled or part.stride[0] == 2 else _MIDDLE
    return ()


def _copy(flat: Tensor, solid: Tensor, taps: tuple[float, ...]) -> None:
    """Into ``solid`` (out, in, …), whose first outputs and inputs may be those for z."""
    first = solid.shape[0] - flat.shape[0]
    if solid.dim() == 1:
        solid[first:] = flat
        return
    second = solid.shape[1] - flat.shape[1]
    solid[first:, :second] = 0
    if solid.dim() > flat.dim():
        flat = flat[:, :, None] * solid.new_tensor(taps)[:, None, None]
    solid[first:, second:] = flat
