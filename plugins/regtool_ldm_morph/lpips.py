"""LPIPS, the perceptual distance of the autoencoder's training, with weights given by path.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018,
version 0.1 on VGG16. Its weights are not regtool's to ship: the user names a safetensors file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from regtool.api import InputError
from regtool_ldm_morph.tensor_files import read_tensors

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Convolutions of VGG16 in the five groups whose last ReLU is compared."""

_MEAN = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""LPIPS centres RGB in [-1, 1] by the statistics of ImageNet."""


class LPIPS(nn.Module):
    """Distance of two batches of images (B, 1, H, W) in [0, 1], averaged to a scalar.

    Grey images enter as three equal channels, mapped to [-1, 1]. H and W must be at least 16.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        channels = 3
        for group in _WIDTHS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for width in group:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.taps.append(len(layers) - 1)
        self.features = nn.ModuleList(layers)
        self.lin = nn.ModuleList(nn.Conv2d(group[-1], 1, 1, bias=False) for group in _WIDTHS)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        total = a.new_zeros((), dtype=torch.float32)
        pairs = zip(self._unit_features(a), self._unit_features(b), strict=True)
        for weights, (x, y) in zip(self.lin, pairs, strict=True):
            total = total + weights((x - y).square()).float().mean()
        return total

    def _unit_features(self, image: Tensor) -> list[Tensor]:
        x = ((2 * image - 1).expand(-1, 3, -1, -1) - self.mean) / self.scale
        found = []
        for k, layer in enumerate(self.features):
            x = layer(x)
            if k in self.taps:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found


def check_lpips(path: str) -> Path:
    """The file at ``path``, if it may hold LPIPS weights. Raises InputError."""
    file = Path(path).expanduser()
    if file.suffix != ".safetensors":
        raise InputError(f"{path}: LPIPS weights are read from a .safetensors file only")
    if not file.is_file():
        raise InputError(f"{path}: no such file; it should hold LPIPS weights (VGG16)")
    return file


def load_lpips(path: str) -> LPIPS:
    """Read LPIPS from a safetensors file and freeze it.

    The file holds torchvision's VGG16 under its own names (``features.N.weight`` and ``.bias``) and
    the five linear layers as ``lin0.weight`` to ``lin4.weight`` (1, C, 1, 1); the names
    ``linN.model.1.weight`` of the LPIPS release are understood, others ignored. Raises InputError,
    perhaps naming the first tensor that is missing or has another shape.
    """
    file = check_lpips(path)
    stored = {_own_name(name): tensor for name, tensor in read_tensors(file).items()}
    network = LPIPS()
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name not in stored or stored[name].shape != tensor.shape:
            raise InputError(f"{path}: '{name}' of shape {tuple(tensor.shape)} is not in it")
    network.load_state_dict({name: stored[name].float() for name in wanted})
    return network.eval().requires_grad_(False)


def _own_name(name: str) -> str:
    name = name.replace(".model.1.", ".")
    return f"lin.{name[3:]}" if name.startswith("lin") and name[3:4].isdigit() else name
