"""Local normalised cross-correlation, its map, and its gradient in closed form.

With box sums over a window of N voxels, ``cross = S(fm) - S(f) S(m) / N`` and the variances
``vf = S(ff) - S(f)**2 / N`` and ``vm`` alike (sums, not divided by N), the squared correlation is
``cc = cross**2 / (vf vm + eps)``; the loss is ``-mean(cc)``. Source: VoxelMorph (METHODS 2.2),
whose zero padding and eps of 1e-5 are kept; the variances are clamped because differences of sums
turn negative in flat regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regtool.losses.box import box_sum, window_sizes

_FLOOR = 1e-6


def local_ncc(
    fixed: Tensor,
    moving: Tensor,
    window: int | Sequence[int] = 9,
    mask: Tensor | None = None,
    squared: bool = True,
    eps: float = 1e-5,
) -> Tensor:
    """Negative mean local correlation, a scalar in [-1, 0] (squared) or [-1, 1].

    ``fixed`` and ``moving`` (B, C, *S), 2-D or 3-D, best in [0, 1]; computed in at least float32.
    ``window`` odd, one for all axes or one each; an axis shorter than half a window is covered
    whole. ``mask`` (B or 1, 1, *S), non-negative weights: only voxels inside enter the sums and the
    mean. Without a mask the outside counts as zeros, as published. ``squared`` scores inverted
    contrast like equal contrast; otherwise ``cross / sqrt(vf vm + eps)`` is used.

    The gradient is computed with the value, from box sums of the derivative maps, and only it is
    kept for the backward pass; second derivatives raise RuntimeError (use ``local_ncc_map``).
    """
    f, m, w = _prepare(fixed, moving, mask)
    return _LocalNCC.apply(f, m, w, window_sizes(window, f.shape[2:]), squared, eps)


def local_ncc_map(
    fixed: Tensor,
    moving: Tensor,
    window: int | Sequence[int] = 9,
    mask: Tensor | None = None,
    squared: bool = True,
    eps: float = 1e-5,
) -> Tensor:
    """Local correlation at every voxel, (B, C, *S); zero outside the mask. Arguments as above.

    Plain autograd, any number of derivatives; slower than ``local_ncc`` and heavier in memory.
    """
    f, m, w = _prepare(fixed, moving, mask)
    sums = _sums(f, m, w, window_sizes(window, f.shape[2:]))
    den = sums.vf * sums.vm + eps
    cc = sums.cross.square() / den if squared else sums.cross / den.sqrt()
    return cc if w is None else torch.where(w > 0, cc, 0.0)


@dataclass
class _Sums:
    cross: Tensor
    vf: Tensor
    vm: Tensor
    mean_f: Tensor
    mean_m: Tensor


def _prepare(
    fixed: Tensor, moving: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    if fixed.shape != moving.shape or fixed.dim() not in (4, 5):
        raise ValueError(
            f"images are (B, C, *S) of one shape, not {tuple(fixed.shape)}, {tuple(moving.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(fixed.dtype, moving.dtype), torch.float32)
    return fixed.to(dtype), moving.to(dtype), None if mask is None else mask.detach().to(dtype)


def _sums(f: Tensor, m: Tensor, w: Tensor | None, sizes: tuple[int, ...]) -> _Sums:
    count: float | Tensor = 1.0
    for n in sizes:
        count *= n
    wf, wm = f, m
    if w is not None:
        count = box_sum(w, sizes).clamp(min=1e-6)
        wf, wm = f * w, m * w
    sum_f, sum_m = box_sum(wf, sizes), box_sum(wm, sizes)
    mean_f, mean_m = sum_f / count, sum_m / count
    cross = box_sum(wf * m, sizes) - sum_f * mean_m
    vf = (box_sum(wf * f, sizes) - sum_f * mean_f).clamp(min=_FLOOR)
    vm = (box_sum(wm * m, sizes) - sum_m * mean_m).clamp(min=_FLOOR)
    return _Sums(cross, vf, vm, mean_f, mean_m)


class _LocalNCC(torch.autograd.Function):
    """Loss and gradients together: ``d cc(x) / d m(y)`` is linear in f(y), m(y) and window means.

    d cross / d m(y) = f(y) - mean_f(x) and d vm / d m(y) = 2 (m(y) - mean_m(x)), so with
    a = d cc / d cross and b = 2 d cc / d vm the gradient is
    ``f S(a) + m S(b) - S(a mean_f + b mean_m)``: three box sums.
    """

    @staticmethod
    def forward(
        ctx: Any,
        f: Tensor,
        m: Tensor,
        w: Tensor | None,
        sizes: tuple[int, ...],
        squared: bool,
        eps: float,
    ) -> Tensor:
        s = _sums(f, m, w, sizes)
        den = s.vf * s.vm + eps
        a = 1 / den if squared else den.rsqrt()
        a = a * s.cross if squared else a
        cc = a * s.cross
        total: Tensor | float = float(cc.numel())
        if w is not None:
            cc = cc * w
            total = w.expand_as(cc).sum().clamp(min=1e-6)
        loss = -cc.sum() / total
        need_f, need_m = ctx.needs_input_grad[:2]
        if not (need_f or need_m):
            return loss
        # d cc / d v = -cc * v_other / den (squared), half of that otherwise.
        b = cc / den
        b = b * (-2.0 if squared else -1.0)
        if squared:
            a = a * 2.0
        if w is not None:
            a = a * w
        weight = 1.0 if w is None else w
        sum_a = box_sum(a, sizes)
        grads: list[Tensor | None] = [None, None]
        wanted = (
            (need_f, m, f, s.mean_m, s.mean_f, s.vm, s.vf),
            (need_m, f, m, s.mean_f, s.mean_m, s.vf, s.vm),
        )
        for i, (need, other, own, mean_other, mean_own, v_other, v_own) in enumerate(wanted):
            if not need:
                continue
            bv = b * v_other * (v_own > _FLOOR)
            grad = other * sum_a + own * box_sum(bv, sizes)
            grad = grad - box_sum(a * mean_other + bv * mean_own, sizes)
            grads[i] = grad * weight / -total
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [None if g is None else g * grad for g in ctx.saved_tensors]
        return saved[0], saved[1], None, None, None, None
