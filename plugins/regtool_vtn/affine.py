"""The affine stem: a matrix W + I and a shift about the middle of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import UsageError
from regtool.api.train import choice
from regtool_vtn.encoder import MULTIPLE, Encoder

_STILL = 1e-5
_GAIN = 0.1
HEADS = ("any", "fixed")


class FixedHead(nn.Module):
    """Convolutions as large as the features of images of ``size``, to W and to b, without bias.

    As published: (2, 8, 8) for images of 32 x 128 x 128, so other sizes do not fit.
    """

    def __init__(self, ndim: int, channels: int, size: Sequence[int]) -> None:
        super().__init__()
        layer: Any = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.size = tuple(size)[-ndim:]
        kernel = tuple(n // MULTIPLE for n in self.size)
        self.matrix = layer(channels, ndim * ndim, kernel, bias=False)
        self.shift = layer(channels, ndim, kernel, bias=False)

    def forward(self, features: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """W (B, n, n) and b (B, n) in voxels from features of images of ``shape``.

        Raises UsageError for another shape than the head's.
        """
        if tuple(shape) != self.size:
            given, own = (" x ".join(map(str, s)) for s in (shape, self.size))
            raise UsageError(
                f"this affine head is for images of {own} only, not {given}; set network.size in "
                "training, or network.affine=any, which takes every size"
            )
        batch, ndim = features.shape[0], len(shape)
        return self.matrix(features).reshape(batch, ndim, ndim), self.shift(features).flatten(1)


class AnyHead(nn.Module):
    """W and b from the features' mean and first moments, whatever the size; near zero at first.

    Global average pooling loses where the features were; the moments over an axis, from -1 to 1
    along it, keep what an affine map needs of it. The shift is a part of half the image's size, so
    that W and b move the border alike. Inputs and outputs that belong to z come first, so that a
    2-D head can be inflated (regtool.api.nn.inflate).
    """

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear((ndim + 1) * channels, ndim * (ndim + 1))
        nn.init.normal_(self.linear.weight, 0.0, _STILL)
        nn.init.zeros_(self.linear.bias)
        entries = [(i, j) for i in range(ndim) for j in range(ndim + 1)]
        inner = [e for e in entries if 0 not in e] if ndim == 3 else entries
        order = [*(e for e in entries if e not in inner), *inner]
        self.places = [order.index(e) for e in entries]

    def forward(self, features: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """W (B, n, n) and b (B, n) in voxels from features of images of ``shape``."""
        ndim = len(shape)
        found = _GAIN * self.linear(moments(features))[:, self.places].unflatten(1, (ndim, -1))
        half = features.new_tensor([n / 2 for n in shape])
        return found[..., :ndim], found[..., ndim] * half


def moments(features: Tensor) -> Tensor:
    """First moments of (B, C, *s) along each axis, then the mean: (B, (n + 1) * C)."""
    found = []
    for axis in range(2, features.dim()):
        n = features.shape[axis]
        at = torch.linspace(-1, 1, n, device=features.device, dtype=features.dtype)
        at = at if n > 1 else torch.zeros_like(at)
        found.append(features * at.reshape(-1, *[1] * (features.dim() - 1 - axis)))
    return torch.cat([part.flatten(2).mean(2) for part in (*found, features)], 1)


class AffineStem(nn.Module):
    """An affine map from the fixed and the moving image; ``head`` is ``fixed`` or ``any``."""

    def __init__(
        self,
        ndim: int,
        widths: Sequence[int],
        head: str = "any",
        size: Sequence[int] | None = None,
        input_activation: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(ndim, widths, input_activation)
        if choice({"affine": head}, "affine", HEADS, within="network") == "any":
            self.head: nn.Module = AnyHead(ndim, widths[3])
        elif size is not None:
            self.head = FixedHead(ndim, widths[3], size)
        else:
            raise UsageError("network.affine fixed: give network.size, too, such as 32 128 128")

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """The homogeneous matrix (B, n + 1, n + 1) float32, voxels in tensor axis order.

        ``x -> (W + I)(x - c) + c + b`` with c the middle of the images (B, 1, *S) in [-1, 1].
        """
        deepest = self.encoder(fixed, moving)[-1]
        with torch.autocast(deepest.device.type, enabled=False):
            shape = tuple(fixed.shape[2:])
            w, b = self.head(deepest.float(), shape)
            return about_the_middle(w, b, shape)


def about_the_middle(w: Tensor, b: Tensor, shape: Sequence[int]) -> Tensor:
    """The homogeneous matrix of ``x -> (W + I)(x - c) + c + b``, c the middle voxel of ``shape``.

    ``w`` (B, n, n) and ``b`` (B, n), voxels. Rows and columns are both in tensor axis order; the
    released code multiplies reversed coordinates (METHODS 5.7, 11).
    """
    batch, n = b.shape
    middle = b.new_tensor([(size - 1) / 2 for size in shape])
    matrix = torch.eye(n + 1, device=b.device, dtype=b.dtype).repeat(batch, 1, 1)
    matrix[:, :n, :n] += w
    matrix[:, :n, n] = b - (w * middle).sum(2)
    return matrix
