"""The patch discriminator of the autoencoder's training, and its losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchCritic(nn.Sequential):
    """PatchGAN of Isola et al., CVPR 2017: 4-wide strided convolutions, batch norm, LeakyReLU 0.2.

    Images (B, 1, H, W) to one logit a patch; three layers of width 64 as in VQGAN.
    """

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        parts: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        channels = width
        for k in range(1, layers + 1):
            outputs = width * min(2**k, 8)
            stride = 1 if k == layers else 2
            parts += [
                nn.Conv2d(channels, outputs, 4, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
            channels = outputs
        super().__init__(*parts, nn.Conv2d(channels, 1, 4, 1, 1))
        for part in self:
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, 0.0, 0.02)
            elif isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1.0, 0.02)


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's hinge loss: logits of real images above 1, of fake ones below -1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last layer, at most 10^4.

    Source: Esser et al., CVPR 2021, equation 7.
    """
    (a,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (b,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    return (a.norm() / (b.norm() + 1e-4)).clamp(0.0, 1e4).detach()
