"""Small generated pairs with a known answer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from regtool.plugins.exchange import Pair, Sample

SHIFTS = {2: (3, -5), 3: (1, -2, 4)}
"""Whole voxels along each tensor axis, each twice another or more, so that orders differ."""


def shifted_pair(shape: tuple[int, ...], shift: tuple[int, ...], batch: int = 1) -> Pair:
    """A textured ellipsoid; the moving one is displaced by ``shift`` voxels.

    So ``moving(x + shift) = fixed(x)``, and ``shift`` is the displacement to be found, which is
    also the pair's ``field``. Images (batch, 1, *shape) in [0, 1] with labels: 1 the object, 2 its
    core.
    """
    margin = max(map(abs, shift), default=0)
    canvas = tuple(n + 2 * margin for n in shape)
    radius = _radius(canvas, shape)
    image = _texture(canvas) * torch.sigmoid((1 - radius) * 12) + 0.05
    labels = (radius < 1).long() + (radius < 0.5).long()

    def cut(values: Tensor, by: tuple[int, ...]) -> Tensor:
        window = tuple(slice(margin - s, margin - s + n) for s, n in zip(by, shape, strict=True))
        return values[window].expand(batch, 1, *shape).clone()

    def sample(by: tuple[int, ...]) -> Sample:
        return Sample(cut(image, by).float(), (1.0,) * len(shape), labels=cut(labels, by))

    field = torch.tensor(shift, dtype=torch.float32).reshape(-1, *[1] * len(shape))
    field = field.expand(batch, -1, *shape).clone()
    return Pair(sample((0,) * len(shape)), sample(shift), field)


def inside(pair: Pair) -> Tensor:
    """Where the fixed object is, (B, 1, *S) bool."""
    assert pair.fixed.labels is not None
    return pair.fixed.labels > 0


def masked(pair: Pair) -> Pair:
    """The same pair with masks that cover the object and a rim."""

    def dilated(sample: Sample) -> Sample:
        assert sample.labels is not None
        ndim = len(sample.spacing)
        pool = F.max_pool2d if ndim == 2 else F.max_pool3d
        mask = pool((sample.labels > 0).float(), 5, stride=1, padding=2)
        return Sample(sample.image, sample.spacing, mask=mask, labels=sample.labels)

    return Pair(dilated(pair.fixed), dilated(pair.moving))


def _radius(canvas: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Distance from the middle in units of the ellipsoid's radii, which follow the image."""
    total = torch.zeros(canvas)
    for axis, (n, size) in enumerate(zip(canvas, shape, strict=True)):
        line = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) / (0.32 * size)
        total = total + line.square().reshape(-1, *[1] * (len(canvas) - 1 - axis))
    return total.sqrt()


def _texture(canvas: tuple[int, ...]) -> Tensor:
    """Smooth noise between 0.35 and 0.9, features about four voxels wide."""
    generator = torch.Generator().manual_seed(20)
    noise = torch.rand((1, 1, *canvas), generator=generator, dtype=torch.float32)
    pool = F.avg_pool2d if len(canvas) == 2 else F.avg_pool3d
    for _ in range(2):
        noise = pool(noise, 3, stride=1, padding=1, count_include_pad=False)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return 0.35 + 0.55 * noise[0, 0]
