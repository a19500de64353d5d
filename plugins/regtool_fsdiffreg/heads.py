"""Fields from features: the heads of feature-wise guidance (FDG) and the one at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regtool.api.nn import Layer, convolution, linear_attention, narrow_convolution

_HEADS = 4


class GuidedHead(nn.Module):
    """The registration's features ask the diffusion model's; the answer becomes a field.

    Both pass one group normalisation; queries come from the registration, keys and values are the
    diffusion features, without projections (Qin and Li 2023, equation 3, as released; METHODS 4.2).
    ``guided`` off: the registration's features alone.
    """

    def __init__(self, ndim: int, channels: int, groups: int, guided: bool = True) -> None:
        super().__init__()
        self.guided = guided
        if guided:
            self.norm = nn.GroupNorm(groups, channels)
            self.out = convolution(ndim, channels, channels, 1)
        self.flow = convolution(ndim, channels, ndim)
        self.spread = convolution(ndim, ndim, ndim)

    def forward(self, stream: Tensor, feature: Tensor) -> Tensor:
        """A field (B, ndim, *s) float32 on the grid of both inputs (B, C, *s).

        ``spread`` comes after the field was brought to full resolution; see ``Heads``.
        """
        if self.guided:
            key = self.norm(feature)
            stream = stream + self.out(linear_attention(self.norm(stream), key, key, _HEADS))
        # Voxels need the digits: float32 even under mixed precision.
        with torch.autocast(stream.device.type, enabled=False):
            return narrow_convolution(self.flow, stream.float())


class FullHead(nn.Module):
    """The field of the last features and the predicted noise, at full resolution."""

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        inputs = channels + 1
        # Three groups of the released nine channels; one where they do not divide.
        self.layer = Layer(ndim, inputs, ndim, 3 if inputs % 3 == 0 else 1)

    def forward(self, stream: Tensor, noise: Tensor) -> Tensor:
        """A field (B, ndim, *S) float32 from features (B, C, *S) and noise (B, 1, *S)."""
        x = functional.silu(self.layer.norm(torch.cat([stream, noise.to(stream.dtype)], 1)))
        with torch.autocast(x.device.type, enabled=False):
            return narrow_convolution(self.layer.convolution, x.float())


class Heads(nn.Module):
    """All heads of a way up whose blocks put out ``widths`` channels; the answer is their mean.

    A field of a coarse block goes to full resolution by repeating voxels, its numbers as they are,
    and through a convolution of its own.
    """

    def __init__(self, ndim: int, widths: Sequence[int], groups: int, guided: bool = True) -> None:
        super().__init__()
        self.guided = nn.ModuleList(GuidedHead(ndim, w, groups, guided) for w in widths)
        self.full = FullHead(ndim, widths[-1])

    @property
    def last_layers(self) -> list[Any]:
        """The convolutions whose outputs are voxels, one for each field."""
        return [*(head.spread for head in self.guided), self.full.layer.convolution]

    def each(self, coarse: Sequence[Tensor], full: Tensor) -> list[Tensor]:
        """The fields (B, ndim, *S) whose mean is the answer, from the coarsest on."""
        with torch.autocast(full.device.type, enabled=False):
            spread = [
                narrow_convolution(layer, larger)
                for layer, larger in zip(
                    self.last_layers[:-1], _enlarged(coarse, full), strict=True
                )
            ]
        return [*spread, full]

    def mean(self, coarse: Sequence[Tensor], full: Tensor) -> Tensor:
        """The mean of ``each``, in one convolution over the channels of all fields."""
        layers = self.last_layers[:-1]
        weight = torch.cat([layer.weight for layer in layers], 1)
        bias = torch.stack([layer.bias for layer in layers]).sum(0)
        with torch.autocast(full.device.type, enabled=False):
            x = torch.cat(_enlarged(coarse, full), 1)
            convolve = functional.conv3d if x.dim() == 5 else functional.conv2d
            return (convolve(x, weight, bias, padding=1) + full) / (len(layers) + 1)


def _enlarged(coarse: Sequence[Tensor], full: Tensor) -> list[Tensor]:
    size = full.shape[2:]
    return [functional.interpolate(field, size=size, mode="nearest") for field in coarse]
