"""The deformable stem: fields from the coarsest features on, each a hint for the next finer one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regtool.api.nn import convolution
from regtool_vtn.encoder import Encoder, activated

_REACH = 20.0
"""The last layer's unit in voxels, shared among the stems (Zhao et al. 2019, as released)."""


def doubling(ndim: int, inputs: int, outputs: int) -> nn.ConvTranspose2d | nn.ConvTranspose3d:
    """A transposed convolution, 4 wide, that doubles every size exactly."""
    layer = nn.ConvTranspose3d if ndim == 3 else nn.ConvTranspose2d
    return layer(inputs, outputs, 4, stride=2, padding=1)


class DeformableStem(nn.Module):
    """A field at full resolution from the fixed image and the moving one as warped so far.

    At 1/16, 1/8 and 1/4 a field is predicted, doubled, and goes with the doubled features and the
    encoder's to the next scale; the last field comes from 1/2 by a transposed convolution, times 20
    and divided by the number of stems. The field stands first where it meets features, so that a
    2-D stem can be inflated (regtool.api.nn.inflate).

    ``flow_init``: standard deviation of the last layer's first weights, whose bias is then zero;
    None leaves PyTorch's, as released.
    """

    def __init__(
        self,
        ndim: int,
        widths: Sequence[int],
        stems: int = 3,
        flow_init: float | None = None,
        input_activation: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(ndim, widths, input_activation)
        self.predict, self.enlarge_field = nn.ModuleList(), nn.ModuleList()
        self.enlarge = nn.ModuleList()
        channels = widths[3]
        for skip in reversed(widths[:3]):
            self.predict.append(convolution(ndim, channels, ndim))
            self.enlarge_field.append(doubling(ndim, ndim, ndim))
            self.enlarge.append(doubling(ndim, channels, skip))
            channels = ndim + 2 * skip
        self.flow = doubling(ndim, channels, ndim)
        self.voxels = _REACH / stems
        if flow_init is not None:
            nn.init.normal_(self.flow.weight, 0.0, flow_init)
            if self.flow.bias is not None:
                nn.init.zeros_(self.flow.bias)

    def forward(self, fixed: Tensor, warped: Tensor) -> Tensor:
        """A field (B, ndim, *S) float32 in voxels from images (B, 1, *S) in [-1, 1]."""
        *skips, x = self.encoder(fixed, warped)
        layers = zip(self.predict, self.enlarge_field, self.enlarge, reversed(skips), strict=True)
        for predict, enlarge_field, enlarge, skip in layers:
            field = enlarge_field(predict(x))
            x = torch.cat([field, skip, enlarge(activated(x))], 1)
        # Voxels need the digits: float32 even under mixed precision.
        with torch.autocast(x.device.type, enabled=False):
            return self.flow(x.float()) * self.voxels
