"""How well a field and its inverse undo each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from regtool.spatial.compose import compose


@dataclass(frozen=True)
class InverseConsistency:
    """Distances in mm between where points start and where there and back leads them.

    Both orders count. ``left_percent`` is the share of points that the first field takes out of
    the image, where the second is unknown: they are not measured.
    """

    mean: float
    max: float
    left_percent: float

    def as_dict(self) -> dict[str, float]:
        """Return the numbers as a plain mapping, ready for JSON."""
        return asdict(self)


def inverse_consistency(
    displacement: ArrayLike, inverse: ArrayLike, spacing: Sequence[float]
) -> InverseConsistency:
    """Mean and largest ``|u(x) + v(x + u(x))|`` and ``|v(x) + u(x + v(x))|`` in mm.

    ``displacement`` u and ``inverse`` v are (ndim, *S) in voxels of one grid, component i along
    axis i; ``spacing`` in mm, one value an array axis. The second field is read by linear
    interpolation. Source: Christensen and Johnson 2001, for fields on one grid.
    Raises ValueError when shapes differ or when no point stays in the image.
    """
    u, v = (torch.as_tensor(np.ascontiguousarray(x))[None] for x in (displacement, inverse))
    if u.shape != v.shape or u.shape[1] != len(spacing):
        raise ValueError(
            f"two displacements of one shape and {u.shape[1]} spacings, not {tuple(u.shape[1:])}, "
            f"{tuple(v.shape[1:])}, {tuple(spacing)}"
        )
    mm = torch.tensor(tuple(spacing), dtype=torch.float64)
    errors = [_errors(first, second, mm) for first, second in ((u, v), (v, u))]
    found = torch.cat(errors)
    if not found.numel():
        raise ValueError("the fields take every point out of the image")
    count = 2 * u[0, 0].numel()
    left = 100.0 * (count - found.numel()) / count
    return InverseConsistency(float(found.mean()), float(found.max()), left)


def _errors(first: Tensor, second: Tensor, spacing: Tensor) -> Tensor:
    stays = torch.ones_like(first[0, 0], dtype=torch.bool)
    for axis, n in enumerate(first.shape[2:]):
        index = torch.arange(n, dtype=first.dtype).reshape(-1, *(1,) * (first.dim() - 3 - axis))
        place = index + first[0, axis]
        stays &= (place >= 0) & (place <= n - 1)
    squared = torch.zeros(first.shape[2:], dtype=torch.float64)
    for residual, mm in zip(compose(second, first)[0], spacing, strict=True):
        squared += (residual.double() * mm).square()
    return squared.sqrt()[stays]
