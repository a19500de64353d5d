"""Jacobian determinants of transforms and the folds they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regtool.spatial.derivative import central_difference
from regtool.spatial.grid import Grid


def jacobian_determinant(
    displacement: Tensor,
    spacing: tuple[float, ...] | None = None,
    scheme: Literal["central", "forward"] = "central",
) -> Tensor:
    """``det(I + grad u)`` of a displacement.

    ``displacement`` (B, ndim, *S), component i along tensor axis i. Without ``spacing`` it is in
    voxels, and the result is also the determinant in millimetres, since both frames are the same
    (ANCHORS 6.5). With ``spacing`` (one value a tensor axis) the displacement is in mm along the
    tensor axes. ``central`` differences (one-sided on the outermost layer) give (B, *S);
    ``forward`` differences give (B, *(n - 1)), as DiffuseReg, VTN and SYMNet count (METHODS 2.4).
    An axis of one voxel has no derivative, so a one-slice 3-D field has its in-plane determinant.
    """
    if scheme not in ("central", "forward"):
        raise ValueError(f"unknown difference scheme {scheme!r}: use central or forward")
    ndim = displacement.shape[1]
    if displacement.dim() != ndim + 2 or ndim not in (2, 3):
        raise ValueError(f"a displacement is (B, ndim, *S), not {tuple(displacement.shape)}")
    u = displacement.to(torch.promote_types(displacement.dtype, torch.float32))
    if spacing is not None:
        u = u / torch.tensor(spacing, dtype=u.dtype, device=u.device).reshape(1, -1, *[1] * ndim)
    if scheme == "forward":
        return _determinant(u, _forward)
    if torch.is_grad_enabled() and u.requires_grad:
        return _determinant(u, central_difference)
    return _slab_by_slab(u)


def field_jacobian(field: Tensor | NDArray[Any], grid: Grid) -> Tensor:
    """``det(d T / d x)`` of ``T(x) = x + u(x)`` given as a field in the world.

    ``field`` (*grid.shape, ndim) in LPS mm, components (x, y, z), as written to the field file.
    Returns (*grid.shape), float64 for float64 fields, else float32. The direction matrix counts:
    with index differences G, ``det(I + G inv(D S))`` equals ``det(I + inv(D S) G)``, so the field
    is turned into index displacements first. ITK 5.4's own filter leaves the direction out and is
    wrong on every flipped grid (ANCHORS 6.5, ITK issue 5358).
    """
    u = torch.as_tensor(np.ascontiguousarray(field) if isinstance(field, np.ndarray) else field)
    if tuple(u.shape) != (*grid.shape, grid.ndim):
        raise ValueError(f"field of shape {tuple(u.shape)} on a grid of shape {grid.shape}")
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    to_index = np.linalg.inv(grid.index_to_world[:-1, :-1])[::-1].copy()
    matrix = torch.from_numpy(to_index).to(u)
    voxels = torch.einsum("ij,...j->i...", matrix, u)
    return jacobian_determinant(voxels[None])[0]


@dataclass(frozen=True)
class FoldSummary:
    """Statistics of a determinant map; ``percent`` is 100 * count / voxels."""

    min: float
    max: float
    mean: float
    sd: float
    sd_log: float
    count: int
    percent: float
    voxels: int
    floored: int

    def as_dict(self) -> dict[str, float]:
        """Return the numbers as a plain mapping, ready for JSON."""
        return asdict(self)


def inner(shape: Sequence[int]) -> tuple[slice, ...]:
    """All but the outermost layer, where differences are one-sided; short axes (< 3) whole."""
    return tuple(slice(1, -1) if n > 2 else slice(None) for n in shape)


def folds(
    determinant: Tensor, mask: Tensor | None = None, floor: float = 1e-3, trim: bool = True
) -> FoldSummary:
    """Summarise one determinant map without its outermost layer.

    ``determinant`` (*S) and ``mask`` (*S) of the same shape (non-zero inside). The outermost layer,
    where differences are one-sided, does not count (unless ``trim`` is off); axes with fewer than
    three voxels are not trimmed. ``count`` is the number of det <= 0 (or not a number), ``sd`` the
    unbiased standard deviation, ``sd_log`` that of the logarithm over the voxels where det > 0 (not
    a number where there are none): the others have no logarithm and are what ``count`` counts.
    ``floored``: voxels below ``floor``.

    Raises ValueError when the mask leaves no voxel.
    """
    det = determinant.detach()
    part = inner(det.shape) if trim else (...,)
    values = det[part]
    if mask is not None:
        if mask.shape != det.shape:
            raise ValueError(f"mask {tuple(mask.shape)} for a map of shape {tuple(det.shape)}")
        values = values[mask[part] != 0]
    values = values.reshape(-1).double()
    if not values.numel():
        raise ValueError("no voxel inside the mask (the outermost layer does not count)")
    logs = values[values > 0].log()
    count = values.numel() - logs.numel()
    return FoldSummary(
        min=float(values.min()),
        max=float(values.max()),
        mean=float(values.mean()),
        sd=_sd(values),
        sd_log=_sd(logs) if logs.numel() else math.nan,
        count=count,
        percent=100.0 * count / values.numel(),
        voxels=values.numel(),
        floored=int((~(values >= floor)).sum()),
    )


def _sd(values: Tensor) -> float:
    return float(values.std()) if values.numel() > 1 else 0.0


def _forward(x: Tensor, axis: int) -> Tensor:
    for other in range(1, x.dim()):
        if other != axis and x.shape[other] > 1:
            x = x.narrow(other, 0, x.shape[other] - 1)
    return torch.diff(x, dim=axis) if x.shape[axis] > 1 else torch.zeros_like(x)


def _slab_by_slab(u: Tensor) -> Tensor:
    """Central-difference determinant with temporaries of a few slices that stay in the cache."""
    n, area = u.shape[2], max(1, u[0, 0, 0].numel())
    step = max(8, 2**19 // area)
    if step >= n or u.is_cuda:
        return _determinant(u, central_difference)
    out = torch.empty_like(u[:, 0], memory_format=torch.contiguous_format)
    for start in range(0, n, step):
        stop = min(start + step, n)
        low, high = max(start - 1, 0), min(stop + 1, n)
        part = _determinant(u[:, :, low:high], central_difference)
        out[:, start:stop] = part[:, start - low : stop - low]
    return out


def _determinant(u: Tensor, difference: Callable[[Tensor, int], Tensor]) -> Tensor:
    ndim = u.shape[1]
    m = [
        [difference(u[:, i], j + 1) + (1.0 if i == j else 0.0) for j in range(ndim)]
        for i in range(ndim)
    ]
    if ndim == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )
