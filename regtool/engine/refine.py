"""Instance optimisation: a displacement fitted to one pair, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regtool.losses.mse import mse
from regtool.losses.ncc import local_ncc
from regtool.losses.smoothness import diffusion
from regtool.plugins.exchange import Context, Pair, Prediction
from regtool.spatial.resize import resize, resize_image
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import warp

_BETAS = (0.9, 0.999)
"""Adam's decay rates of the mean gradient and of its square."""

_SMALLEST = 16
"""An axis is not halved below this many voxels, so thin stacks keep their slices."""

_GAIN = 1e-6
"""A smaller fall of the loss is rounding."""

_FLAT = 1e-3
"""Products of window variances (sums) below this count as flat: noise does not pull there."""


@dataclass(frozen=True)
class Optimisation:
    """What is minimised: similarity + smoothness * diffusion; ``iterations`` coarse to fine.

    ``rate`` is Adam's step in voxels of the level. ``window``: edge of the local correlation.
    """

    similarity: Literal["ncc", "mse"] = "ncc"
    window: int = 7
    smoothness: float = 0.3
    iterations: tuple[int, ...] = (100, 100, 50)
    rate: float = 0.1


def optimise(
    pair: Pair, settings: Optimisation, context: Context, start: Tensor | None = None
) -> Tensor:
    """Fit a displacement (B, ndim, *S), in voxels, to a pair of images (B, C, *S).

    Starts from ``start`` (same form) or from zero. The fixed mask weights the similarity.
    ``context.preview`` sees the displacement after each level and may stop the optimisation;
    ``context.report`` counts iterations. Gradients are enabled inside whatever the caller's mode.
    """
    fixed, moving = pair.fixed.image.float(), pair.moving.image.float()
    shape = tuple(fixed.shape[2:])
    levels = _shapes(shape, pair.fixed.spacing, len(settings.iterations))
    u = fixed.new_zeros(fixed.shape[0], len(shape), *levels[0])
    if start is not None:
        u = resize(start.float(), levels[0])
    done, total = 0, sum(settings.iterations)
    for level, (size, count) in enumerate(zip(levels, settings.iterations, strict=True)):
        images = [_shrink(image, size) for image in (fixed, moving)]
        mask = None if pair.fixed.mask is None else _shrink(pair.fixed.mask.float(), size)
        loss = _objective(images[0], images[1], mask, settings)
        with torch.enable_grad(), torch.autocast(fixed.device.type, enabled=False):
            u = _descend(resize(u, size), loss, count, settings.rate, context, (done, total))
        done += count
        if not context.preview(level, Prediction(displacement=resize(u, shape))):
            break
    return resize(u, shape)


def _objective(
    fixed: Tensor, moving: Tensor, mask: Tensor | None, settings: Optimisation
) -> Callable[[Tensor], Tensor]:
    def loss(u: Tensor) -> Tensor:
        warped = warp(moving, u)
        if settings.similarity == "ncc":
            value = local_ncc(fixed, warped, settings.window, mask, eps=_FLAT, neutral=True)
        else:
            value = mse(fixed, warped, mask)
        return value + settings.smoothness * diffusion(u)

    return loss


def _descend(
    u: Tensor,
    loss: Callable[[Tensor], Tensor],
    count: int,
    rate: float,
    context: Context,
    progress: tuple[int, int],
) -> Tensor:
    """Adam for ``count`` steps; the displacement with the smallest loss is kept.

    So equal images stay exactly where they are, though Adam turns rounding errors into full steps.
    Adam (Kingma & Ba 2015) is written out because the first use of ``torch.optim`` imports
    PyTorch's compiler, which takes a second.
    """
    u = u.detach().clone()
    best, least = u.clone(), float("inf")
    mean, square = torch.zeros_like(u), torch.zeros_like(u)
    for step in range(1, count + 1):
        value = loss(u.requires_grad_(True))
        (gradient,) = torch.autograd.grad(value, u)
        u = u.detach()
        if value.item() < least - _GAIN:
            least = value.item()
            best.copy_(u)
        mean.lerp_(gradient, 1 - _BETAS[0])
        square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        scale = (square / (1 - _BETAS[1] ** step)).sqrt_().add_(1e-8)
        u.addcdiv_(mean, scale, value=-rate / (1 - _BETAS[0] ** step))
        context.report(progress[0] + step, progress[1])
    with torch.no_grad():
        return u if float(loss(u)) < least - _GAIN else best


def _shapes(
    shape: tuple[int, ...], spacing: tuple[float, ...], levels: int
) -> list[tuple[int, ...]]:
    """Sizes of the levels, coarse to fine: widely spaced and short axes are halved later."""
    sizes, steps, found = list(shape), list(spacing), [tuple(shape)]
    for _ in range(levels - 1):
        finest = min(steps)
        for axis, size in enumerate(sizes):
            if size >= 2 * _SMALLEST and steps[axis] < 1.5 * finest:
                sizes[axis], steps[axis] = (size + 1) // 2, steps[axis] * 2
        found.append(tuple(sizes))
    return found[::-1]


def _shrink(image: Tensor, size: tuple[int, ...]) -> Tensor:
    ratios = [old / new for old, new in zip(image.shape[2:], size, strict=True)]
    if max(ratios) <= 1:
        return image
    return resize_image(gaussian(image, [0.5 * r if r > 1 else 0.0 for r in ratios]), size)
