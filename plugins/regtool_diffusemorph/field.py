"""The deformation network: from the moving image and the predicted noise to a displacement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regtool.api.nn import convolution, narrow_convolution


@dataclass(frozen=True)
class Form:
    """Widths on the way down and up, and convolutions a block.

    The fourth block of the way up works at half resolution, without a skip of its own.
    """

    down: tuple[int, ...]
    up: tuple[int, ...]
    layers: int = 1


FORMS: dict[str, Form] = {
    # The released 3-D network, 361,299 parameters in 3-D, which the paper calls VoxelMorph-1.
    "voxelmorph": Form((16, 32, 32, 32, 32), (32, 32, 32, 8, 8)),
    # The released 2-D network, 74,736,258 parameters in 2-D.
    "large": Form((64, 128, 256, 512, 1024), (1024, 512, 256, 128, 64), layers=2),
}


class _Block(nn.Sequential):
    """Convolutions of width 3 with LeakyReLU 0.2, no normalisation; the first may halve."""

    def __init__(self, ndim: int, inputs: int, outputs: int, layers: int, stride: int = 1) -> None:
        parts: list[nn.Module] = []
        for number in range(layers):
            channels, step = (inputs, stride) if number == 0 else (outputs, 1)
            parts += [convolution(ndim, channels, outputs, stride=step), nn.LeakyReLU(0.2)]
        super().__init__(*parts)


class FieldNetwork(nn.Module):
    """A U-Net of four halvings whose way up has learned, transposed convolutions.

    Input (B, 2, *S), sizes divisible by 16: moving image in [-1, 1] and predicted noise. Output
    (B, ndim, *S) float32 in voxels. ``width`` multiplies all widths.
    ``flow_init`` is the standard deviation of the last layer's weights at the start; the release
    starts all layers at 0.02 (METHODS DM-4).
    """

    def __init__(
        self, ndim: int, form: str = "voxelmorph", width: int = 1, flow_init: float = 0.02
    ) -> None:
        super().__init__()
        sizes, layers = FORMS[form], FORMS[form].layers
        down, up = [width * n for n in sizes.down], [width * n for n in sizes.up]
        transposed = nn.ConvTranspose3d if ndim == 3 else nn.ConvTranspose2d
        self.down, channels = nn.ModuleList(), 2
        for level, outputs in enumerate(down):
            self.down.append(_Block(ndim, channels, outputs, layers, stride=2 if level else 1))
            channels = outputs
        self.larger, self.up = nn.ModuleList(), nn.ModuleList()
        skips = down[-2::-1]
        for number, outputs in enumerate(up):
            skip = 0
            if number != 3:
                self.larger.append(transposed(channels, channels, 3, 2, 1, output_padding=1))
                skip = skips.pop(0)
            self.up.append(_Block(ndim, channels + skip, outputs, layers))
            channels = outputs
        self.flow = convolution(ndim, channels, ndim)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                nn.init.normal_(layer.weight, 0.0, flow_init if layer is self.flow else 0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        larger = iter(self.larger)
        for number, block in enumerate(self.up):
            if number != 3:
                x = torch.cat([next(larger)(x), skips.pop()], 1)
            x = block(x)
        # Voxels need the digits: float32 even under mixed precision.
        with torch.autocast(x.device.type, enabled=False):
            return narrow_convolution(self.flow, x.float())
