"""Removal of every fold of a displacement, with little change and none far from the folds.

The corner determinants d (see ``corners``) of the folded cells are raised above a floor by damped
Gauss-Newton steps: the least step (in mm) that lifts the linearised determinants,

    min |step|^2 + weight * sum of ((target - d - g . step) / |g|)^2   over all d below the target,

on the vertices of these corners alone, by conjugate gradients. Each step is the least that does
its work, so their sum stays near the least change. Dividing by the slope |g| measures a violation
in voxels, which keeps stretched and collapsed cells alike in hand. Where this stalls, as it may
where cells are turned inside out many times over, what remains folded is smoothed over a region
that grows from attempt to attempt. Should even that fail, the field shrinks towards its mean, and
a constant has no folds; so the procedure ends, and never with a fold.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from regtool.spatial.corners import Patch, Scan, scan, vertex_offsets
from regtool.spatial.smooth import gaussian

FLOOR = 0.01
"""Least corner determinant of every cell that a repair touches."""

ZERO = 1e-6
"""Determinants up to this count as zero: float32 cannot tell."""

_WEIGHT = 10.0
_FLAT = 0.03
"""Squared slopes well below this no longer amplify a step."""

_REACH = 0.5
"""Longest step of a vertex along an axis, in voxels."""

_AIM = 1.5
"""How far over the floor a step aims, as a factor."""

_PATIENCE = 12
"""Steps within which a tenth of the low determinants has to go."""

_ATTEMPTS = 12
_CONJUGATE_STEPS = 15
_MOST_CELLS = 200_000
"""With more folded cells the field is smoothed before anything else, to bound time and memory."""


def repair(
    displacement: Tensor, spacing: tuple[float, ...] | None = None, floor: float = FLOOR
) -> Tensor:
    """Return a displacement near the given one of which no determinant is zero or negative.

    ``displacement`` (B, ndim, *S) in voxels, component i along tensor axis i; ``spacing`` in mm,
    one value a tensor axis (default 1), says what a small change is. Returns float64 of the same
    shape, on the CPU. Central and all corner determinants are then positive, the outermost layer
    included; every cell that was touched has corner determinants of at least ``floor``. Vertices
    that were not touched keep their values; without a fold that is all of them.

    Axes of one voxel have no derivative and their components stay. A component that is zero
    everywhere (a volume registered slice by slice) stays zero, and every slice is repaired alone.

    Raises ValueError for a displacement that is not finite or not (B, ndim, *S), or a floor that
    is not between 0 and 1.
    """
    ndim = displacement.shape[1] if displacement.dim() > 2 else 0
    if displacement.dim() != ndim + 2 or ndim not in (1, 2, 3):
        raise ValueError(f"a displacement is (B, ndim, *S), not {tuple(displacement.shape)}")
    if not 0 < floor < 1:
        raise ValueError(f"a floor lies between 0 and 1, not at {floor}")
    u = displacement.detach().to("cpu", torch.float64, copy=True)
    if not torch.isfinite(u).all():
        raise ValueError("the displacement is not finite")
    if not u.numel():
        return u
    mm = tuple(spacing) if spacing is not None else (1.0,) * ndim
    live = [a for a in range(ndim) if u.shape[a + 2] > 1]
    moving = [a for a in live if _moves(u, a)]
    _repair_along(u, moving, mm, floor)
    if moving != live and scan_displacement(u, ZERO).cells.numel():
        _repair_along(u, live, mm, floor)  # what seemed to be rounding was not
    return u


def scan_displacement(displacement: Tensor, threshold: float = 0.0) -> Scan:
    """Scan the corners of (B, ndim, *S), in voxels; ``cells`` are in the layout (B, *S)."""
    live = [a for a in range(displacement.shape[1]) if displacement.shape[a + 2] > 1]
    if not live:
        return Scan(0, torch.zeros(0, dtype=torch.long), 1.0)
    shape = [displacement.shape[a + 2] for a in live]
    u = displacement[:, live].movedim(1, 0)
    return scan(u.reshape(len(live), -1, *shape), threshold)


def shrunk(values: Tensor, fine: Callable[[Tensor], bool]) -> Tensor:
    """The largest shrinking of (..., ) towards its mean that is ``fine``, or zero.

    ``values`` (C, N): the mean is that of each row. Raises ValueError where not even zero is fine.
    """
    mean = values.mean(1, keepdim=True)
    bad, good = 1.0, 0.0
    for centre in (mean, torch.zeros_like(mean)):
        for power in range(1, 40):
            if fine(centre + (values - centre) * 0.5**power):
                bad, good = 0.5 ** (power - 1), 0.5**power
                for _ in range(5):
                    middle = (bad + good) / 2
                    if fine(centre + (values - centre) * middle):
                        good = middle
                    else:
                        bad = middle
                return centre + (values - centre) * good
        if fine(centre.expand_as(values)):
            return centre.expand_as(values).clone()
    raise ValueError("the field folds even where it is zero")


def _moves(u: Tensor, axis: int) -> bool:
    """Whether a component is more than what rounding to float32 in an oblique frame leaves."""
    return float(u[:, axis].abs().max()) > 1e-5 * float(u.abs().max())


def _repair_along(u: Tensor, axes: list[int], mm: tuple[float, ...], floor: float) -> None:
    """Repair (B, ndim, *S) in place, components and derivatives along ``axes`` only."""
    if not axes:
        return
    others = [a + 2 for a in range(u.shape[1]) if a not in axes]
    order = (1, 0, *others, *(a + 2 for a in axes))
    parts = u[:, axes].permute(order)
    flat = parts.reshape(len(axes), -1, *(u.shape[a + 2] for a in axes))
    flat, spacing = flat.contiguous(), tuple(mm[a] for a in axes)
    size = flat[0, 0].numel()
    low = scan(flat, ZERO).cells
    for p in torch.unique(low // size).tolist():
        cells = low[low // size == p] - p * size
        flat[:, p : p + 1] = _Repair(flat[:, p : p + 1], spacing, floor).run(cells)
    u[:, axes] = flat.reshape(parts.shape).permute([order.index(a) for a in range(u.dim())])


class _Repair:
    """One repair of (k, 1, *S), k axes of at least two voxels, spacing in mm of each."""

    def __init__(self, u: Tensor, spacing: tuple[float, ...], floor: float) -> None:
        self.u, self.floor = u.clone(memory_format=torch.contiguous_format), floor
        self.k, self.shape = u.shape[0], tuple(u.shape[2:])
        self.flat = self.u.view(self.k, -1)
        mean = math.prod(spacing) ** (1 / self.k)
        self.scale = torch.tensor([s / mean for s in spacing], dtype=torch.float64)

    def run(self, low: Tensor) -> Tensor:
        """Lift the ``low`` cells, smoothing where that stalls; shrink as the last resort."""
        for attempt in range(1, _ATTEMPTS + 1):
            if low.numel() <= _MOST_CELLS:
                low = self._lift(self._corners_of(low))
            if not low.numel():
                return self.u
            low = self._smooth(low, attempt)
        return shrunk(self.flat, self._is_fine).view_as(self.u)

    def _is_fine(self, flat: Tensor) -> bool:
        return not scan(flat.view_as(self.u), self.floor).cells.numel()

    def _corners_of(self, cells: Tensor) -> Tensor:
        return torch.unique(cells[:, None] + vertex_offsets(self.shape))

    def _lift(self, free: Tensor) -> Tensor:
        """Gauss-Newton steps on ``free`` vertices and those that join; the cells still low."""
        patch, u = self._take(free)
        fewest, stalled = math.inf, 0
        while True:
            values = patch.determinants(u)
            low = ~(values >= self.floor)
            count = int(low.sum())
            stalled = 0 if count < 0.9 * fewest else stalled + 1
            fewest = min(count, fewest) if stalled == 0 else fewest
            if not count or stalled == _PATIENCE:
                self.flat[:, patch.vertices] = u.T
                return patch.cells[low.any(1)]
            while True:
                cell, corner = (values < _AIM * self.floor).nonzero(as_tuple=True)
                vertex, slope = patch.gradients(u, cell, corner)
                joining = vertex[~patch.is_free[vertex]]
                if not joining.numel():
                    break
                self.flat[:, patch.vertices] = u.T
                patch, u = self._take(torch.cat([patch.free, patch.vertices[joining]]))
                values = patch.determinants(u)
            reached = values[cell, corner]
            # An aim that rises while nothing changes gets the last ones over the floor.
            aim = self.floor * (_AIM + 0.75 * stalled * (reached < self.floor))
            step = _least_step(vertex, slope / self.scale, aim - reached, len(u))
            step /= self.scale
            u += step * (_REACH / step.abs().amax(1, keepdim=True).clamp(min=_REACH))

    def _take(self, free: Tensor) -> tuple[Patch, Tensor]:
        """The patch around vertices, and the displacements (V, k) of its vertices."""
        patch = Patch(torch.unique(free), self.shape)
        return patch, self.flat[:, patch.vertices].T.contiguous()

    def _smooth(self, cells: Tensor, attempt: int) -> Tensor:
        """Smooth around cells: the more attempts have been made, the wider and the stronger.

        Returns the cells around that are low afterwards.
        """
        sigma = 0.5 * 1.4**attempt
        where = torch.zeros(self.flat.shape[1], dtype=torch.bool)
        where[self._corners_of(cells)] = True
        where = where.view(self.u.shape[1:])
        margin = attempt + math.ceil(4 * sigma)
        box = [slice(0, 1)]
        for places in where.nonzero()[:, 1:].unbind(1):
            low, high = int(places.min()) - margin, int(places.max()) + margin
            box.append(slice(max(0, low), high + 1))
        mask = where[tuple(box)][:, None].double()
        pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[self.k - 1]
        for _ in range(attempt):
            mask = pool(mask, 3, 1, 1)
        part = self.u[(slice(None), *box)].movedim(1, 0)
        part += mask * (gaussian(part, sigma) - part)
        low_here = scan(part.movedim(1, 0), self.floor).cells
        corners = low_here[:, None] + vertex_offsets(tuple(mask.shape[2:]))
        touched = mask.flatten()[corners].amax(1) > 0
        numbers = torch.arange(self.flat.shape[1]).view(self.u.shape[1:])[tuple(box)]
        return numbers.flatten()[low_here[touched]]


def _least_step(vertex: Tensor, slope: Tensor, lift: Tensor, vertices: int) -> Tensor:
    """The damped least-squares step (V, k) that raises determinants by ``lift`` (A).

    ``vertex`` (A, k + 1) and ``slope`` (A, k + 1, k) are their linearisation.
    """
    size = (slope.square().sum((1, 2)) + _FLAT).rsqrt()
    rows = (slope * size[:, None, None]).flatten(1)
    lift = lift * size
    index, k = vertex.flatten(), slope.shape[2]

    def spread(values: Tensor) -> Tensor:
        out = torch.zeros(vertices, k, dtype=values.dtype)
        return out.index_add_(0, index, values.view(-1, k))

    diagonal = 1 + _WEIGHT * spread(rows.square())
    rest = _WEIGHT * spread(rows * lift[:, None])
    step = torch.zeros_like(rest)
    ready = rest / diagonal
    direction, size_now = ready.clone(), float((rest * ready).sum())
    first = size_now
    for _ in range(_CONJUGATE_STEPS):
        if not size_now > 1e-4 * first:
            break
        lifted = (direction[index].view(rows.shape) * rows).sum(1, keepdim=True)
        image = direction + _WEIGHT * spread(rows * lifted)
        length = size_now / float((direction * image).sum())
        step.add_(direction, alpha=length)
        rest.sub_(image, alpha=length)
        ready = rest / diagonal
        size_before, size_now = size_now, float((rest * ready).sum())
        direction = ready.add_(direction, alpha=size_now / size_before)
    return step
