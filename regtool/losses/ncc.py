"""Local normalised cross-correlation, its map, and its gradient in closed form.

With box sums over a window of N voxels, ``cross = S(fm) - S(f) S(m) / N`` and the variances
``vf = S(ff) - S(f)**2 / N`` and ``vm`` alike (sums, not divided by N), the squared correlation is
``cc = cross**2 / (vf vm + eps)``; the loss is ``-mean(cc)``. Source: VoxelMorph (METHODS 2.2),
whose zero padding and eps of 1e-5 are kept; the variances are clamped because differences of sums
turn negative in flat regions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regtool.losses.box import blocks, box_sum, box_sums, window_sizes

_FLOOR = 1e-6


def local_ncc(
    fixed: Tensor,
    moving: Tensor,
    window: int | Sequence[int] = 9,
    mask: Tensor | None = None,
    squared: bool = True,
    eps: float = 1e-5,
    neutral: bool = False,
) -> Tensor:
    """Negative mean local correlation, a scalar in [-1, 0] (squared) or [-1, 1].

    ``fixed`` and ``moving`` (B, C, *S), 2-D or 3-D, best in [0, 1]; computed in at least float32.
    ``window`` odd, one for all axes or one each; an axis shorter than half a window is covered
    whole. ``mask`` (B or 1, 1, *S), non-negative weights: only voxels inside enter the sums and the
    mean. Without a mask the outside counts as zeros, as published. ``squared`` scores inverted
    contrast like equal contrast; otherwise ``cross / sqrt(vf vm + eps)`` is used. ``neutral``
    (squared only): ``(cross**2 + eps) / (vf vm + eps)``, so that equal images are stationary; as
    published, weak texture gains by growing, and an optimiser moves images that are the same.

    The gradient is computed with the value, from box sums of the derivative maps, and only it is
    kept for the backward pass; second derivatives raise RuntimeError (use ``local_ncc_map``).
    """
    f, m, w = _prepare(fixed, moving, mask)
    sizes = window_sizes(window, f.shape[2:])
    return _LocalNCC.apply(f, m, w, sizes, squared, eps, eps if neutral and squared else 0.0)


def local_ncc_gradient(
    fixed: Tensor,
    moving: Tensor,
    window: int | Sequence[int] = 9,
    mask: Tensor | None = None,
    squared: bool = True,
    eps: float = 1e-5,
    neutral: bool = False,
) -> tuple[Tensor, Tensor]:
    """Loss of each batch element, (B,), and its gradient with respect to ``moving``, (B, C, *S).

    Arguments as above; no autograd is involved.
    """
    with torch.no_grad():
        f, m, w = _prepare(fixed, moving, mask)
        sizes = window_sizes(window, f.shape[2:])
        plus = eps if neutral and squared else 0.0
        values, (_, gradient) = _evaluate(f, m, w, sizes, squared, eps, plus, (False, True), True)
    assert gradient is not None
    return values, gradient


def local_ncc_map(
    fixed: Tensor,
    moving: Tensor,
    window: int | Sequence[int] = 9,
    mask: Tensor | None = None,
    squared: bool = True,
    eps: float = 1e-5,
    neutral: bool = False,
) -> Tensor:
    """Local correlation at every voxel, (B, C, *S); zero outside the mask. Arguments as above.

    Plain autograd, any number of derivatives; slower than ``local_ncc`` and heavier in memory.
    """
    f, m, w = _prepare(fixed, moving, mask)
    sums = _sums(f, m, w, window_sizes(window, f.shape[2:]))
    den = sums.vf * sums.vm + eps
    plus = eps if neutral else 0.0
    cc = (sums.cross.square() + plus) / den if squared else sums.cross / den.sqrt()
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
    count: float | Tensor = float(math.prod(sizes))
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
        plus: float,
    ) -> Tensor:
        needs = ctx.needs_input_grad[:2]
        values, gradients = _evaluate(f, m, w, sizes, squared, eps, plus, needs, False)
        if any(needs):
            ctx.save_for_backward(*gradients)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = [None if g is None else g * grad for g in ctx.saved_tensors]
        return saved[0], saved[1], None, None, None, None, None


def _evaluate(
    f: Tensor,
    m: Tensor,
    w: Tensor | None,
    sizes: tuple[int, ...],
    squared: bool,
    eps: float,
    plus: float,
    needs: tuple[bool, bool],
    each: bool,
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """Loss (of each batch element, or of all) and the gradients that are needed."""
    work = _Work(f, m, w, sizes)
    parts = [
        work.differentiate(at, squared, eps, plus, *needs)
        for at in blocks(f.shape, 2, 2**18 * torch.get_num_threads())
    ]
    cc = torch.stack(parts).sum(0)
    total: Tensor | float = float(f[0].numel())
    if w is not None:
        total = w.expand_as(f).sum(tuple(range(1, f.dim()))).clamp(min=1e-6)
    if not each:
        cc, total = cc.sum(), total * f.shape[0] if w is None else total.sum()  # type: ignore[union-attr]
    scale = -1 / total
    if isinstance(scale, Tensor) and each:
        scale = scale.view(-1, *[1] * (f.dim() - 1))
    return -cc / total, work.gradients(scale, *needs) if any(needs) else (None, None)


class _Work:
    """The box sums of one evaluation, replaced in place by derivative maps slab after slab."""

    def __init__(self, f: Tensor, m: Tensor, w: Tensor | None, sizes: tuple[int, ...]) -> None:
        self.f, self.m, self.w, self.sizes = f, m, w, sizes
        self.count = None if w is None else box_sum(w, sizes).clamp_(min=1e-6)
        wf, wm = (f, m) if w is None else (f * w, m * w)
        factors: list[tuple[Tensor, Tensor | None]] = [
            (wf, None),
            (wm, None),
            (wf, f),
            (wm, m),
            (wf, m),
        ]
        self.sf, self.sm, self.sff, self.smm, self.sfm = box_sums(factors, sizes)

    def differentiate(
        self, at: slice, squared: bool, eps: float, plus: float, need_f: bool, need_m: bool
    ) -> Tensor:
        """Sum a slab's correlation for each batch element; leave a in sfm, b in sff, smm and
        the rest in sf, sm."""
        sf, sm, sfm = self.sf[:, :, at], self.sm[:, :, at], self.sfm[:, :, at]
        sff, smm = self.sff[:, :, at], self.smm[:, :, at]
        share = 1.0 / math.prod(self.sizes)
        inverse = share if self.count is None else 1 / self.count[:, :, at]
        mean_f, mean_m = sf * inverse, sm * inverse
        cross = sfm - sf * mean_m
        vf = (sff - sf * mean_f).clamp_(min=_FLOOR)
        vm = (smm - sm * mean_m).clamp_(min=_FLOOR)
        den = (vf * vm).add_(eps)
        a = cross / den if squared else den.rsqrt()
        cc = a * cross
        if plus:
            cc += plus / den
        if self.w is not None:
            weight = self.w[:, :, at]
            cc, a = cc * weight, a * weight
        if need_f or need_m:
            # d cc / d v = -cc * v_other / den when squared, half of it otherwise.
            scale = 2.0 if squared else 1.0
            b = (cc / den).mul_(-scale)
            a.mul_(scale)
            sfm.copy_(a)
            if need_m:
                _derivatives(smm, sm, b * vf, vm, a, mean_f, mean_m)
            if need_f:
                _derivatives(sff, sf, b * vm, vf, a, mean_m, mean_f)
        return cc.sum(tuple(range(1, cc.dim())))

    def gradients(
        self, scale: Tensor | float, need_f: bool, need_m: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        maps: list[tuple[Tensor, Tensor | None]] = [(self.sfm, None)]
        maps += [(x, None) for x in (self.sff, self.sf) if need_f]
        maps += [(x, None) for x in (self.smm, self.sm) if need_m]
        sum_a, *rest = box_sums(maps, self.sizes)
        grad_f = self._gradient(sum_a, rest[:2], self.f, self.m, scale) if need_f else None
        grad_m = self._gradient(sum_a, rest[-2:], self.m, self.f, scale) if need_m else None
        return grad_f, grad_m

    def _gradient(
        self, sum_a: Tensor, sums: list[Tensor], own: Tensor, other: Tensor, scale: Any
    ) -> Tensor:
        grad = sums[0].mul_(own).addcmul_(sum_a, other).sub_(sums[1]).mul_(scale)
        return grad if self.w is None else grad.mul_(self.w)


def _derivatives(
    b_out: Tensor,
    rest_out: Tensor,
    b: Tensor,
    variance: Tensor,
    a: Tensor,
    mean_other: Tensor,
    mean_own: Tensor,
) -> None:
    """Write b (zero where the variance is clamped) and ``a mean_other + b mean_own``."""
    torch.mul(b, variance > _FLOOR, out=b_out)
    torch.mul(a, mean_other, out=rest_out)
    rest_out.addcmul_(b_out, mean_own)
