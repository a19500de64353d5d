"""Determinants at every corner of every cell of a grid, densely and for a few cells.

At voxel x each axis offers a forward and a backward difference; the 2**k choices give the corner
determinants of x, one for each cell that touches it. A multilinear cell keeps its orientation at
its corners where all of them are positive. A determinant is linear in each column and a central
difference is the mean of the two others, so the central determinant is the mean of the corner
determinants of the same voxel: where no corner folds, central differences do not either.

Layout: (k, P, *S) with k axes of at least two voxels and P independent fields; a vertex is its
position in (P, *S) flattened. Displacements are in voxels, component i along axis i of S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_SLAB = 1 << 15
_CHUNK = 1 << 15

Columns = list[list[Tensor]]
"""``columns[j][i]``: derivative of component i along axis j."""


@dataclass(frozen=True)
class Scan:
    """``count`` corner determinants are not positive; ``cells`` holds the first vertices of the
    cells with one at or below the threshold, ascending; ``min`` is the smallest determinant."""

    count: int
    cells: Tensor
    min: float


def scan(u: Tensor, threshold: float = 0.0) -> Scan:
    """Find the cells of (k, P, *S) that have a corner determinant at or below ``threshold``.

    Computed in float64, slab by slab. Not a number counts as a fold.
    """
    k, shape = u.shape[0], u.shape[2:]
    area = math.prod(shape[1:])
    step = max(2, _SLAB // max(1, area))
    count, least, found = 0, math.inf, []
    for p in range(u.shape[1]):
        for start in range(0, shape[0] - 1, step):
            part = u[:, p, start : start + step + 1].double()
            edges = [_edges(part, axis) for axis in range(k)]
            flagged = torch.zeros([n - 1 for n in part.shape[1:]], dtype=torch.bool)
            flagged = flagged.to(u.device)
            for corner in range(2**k):
                value = determinant([_at_corner(edges[j], j, corner) for j in range(k)])
                smallest = float(value.min())
                least = min(least, -math.inf if math.isnan(smallest) else smallest)
                if not smallest > max(threshold, 0.0):
                    count += int((~(value > 0)).sum())
                    flagged |= ~(value > threshold)
            if flagged.any():
                index = flagged.nonzero()
                index[:, 0] += start
                found.append((index * _strides(shape).to(index)).sum(1) + p * shape[0] * area)
    cells = torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=u.device)
    return Scan(count, cells, least)


class Patch:
    """All cells that touch a set of vertices, and the vertices of these cells.

    ``free``: the vertices given, ascending; ``vertices`` (V) ascending; ``cells`` (M) by their
    first vertex; ``of_cell`` (M, 2**k) and ``is_free`` (V) refer to ``vertices``. Bit j of a corner
    says that it lies at the far end of axis j.
    """

    def __init__(self, free: Tensor, shape: tuple[int, ...]) -> None:
        self.k = len(shape)
        strides = _strides(shape).tolist()
        offsets = vertex_offsets(shape).to(free)
        places = [(free // s) % n for s, n in zip(strides, shape, strict=True)]
        first = []
        for corner in range(2**self.k):
            inside = torch.ones_like(free, dtype=torch.bool)
            for axis, n in enumerate(shape):
                place = places[axis] - (corner >> axis & 1)
                inside &= (place >= 0) & (place <= n - 2)
            first.append(free[inside] - offsets[corner])
        self.free = free
        self.cells = torch.unique(torch.cat(first))
        self.vertices, where = torch.unique(self.cells[:, None] + offsets, return_inverse=True)
        self.of_cell = where.reshape(-1, 2**self.k)
        self.is_free = torch.isin(self.vertices, free, assume_unique=True)

    def determinants(self, u: Tensor) -> Tensor:
        """Corner determinants (M, 2**k) for displacements (V, k) of the vertices."""
        return torch.cat([self._determinants(u, part) for part in self.of_cell.split(_CHUNK)])

    def _determinants(self, u: Tensor, of_cell: Tensor) -> Tensor:
        k = self.k
        points = [u[vertex].unbind(1) for vertex in of_cell.unbind(1)]
        edges: dict[tuple[int, int], list[Tensor]] = {}
        for axis in range(k):
            for low in range(2**k):
                if not low >> axis & 1:
                    ends = zip(points[low | 1 << axis], points[low], strict=True)
                    edges[axis, low] = [
                        b - a + 1 if i == axis else b - a for i, (b, a) in enumerate(ends)
                    ]
        values = [
            determinant([edges[j, corner & ~(1 << j)] for j in range(k)]) for corner in range(2**k)
        ]
        return torch.stack(values, 1)

    def gradients(self, u: Tensor, cell: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (A, k + 1) and derivatives (A, k + 1, k) of A corner determinants."""
        k = self.k
        base = self.of_cell[cell, corner]
        neighbours = [self.of_cell[cell, corner ^ (1 << j)] for j in range(k)]
        signs = [(1 - 2 * (corner >> j & 1)).to(u) for j in range(k)]
        columns = []
        for j in range(k):
            column = list(((u[neighbours[j]] - u[base]) * signs[j][:, None]).unbind(1))
            column[j] = column[j] + 1
            columns.append(column)
        rows = [
            torch.stack([c * signs[j] for c in column], 1)
            for j, column in enumerate(cofactors(columns))
        ]
        slopes = torch.stack([*rows, -sum(rows[1:], rows[0])], 1)
        return torch.stack([*neighbours, base], 1), slopes


def vertex_offsets(shape: tuple[int, ...]) -> Tensor:
    """Distance of the 2**k corners of a cell from its first vertex, in flattened vertices."""
    corner = torch.arange(2 ** len(shape))
    bits = torch.stack([corner >> axis & 1 for axis in range(len(shape))], 1)
    return (bits * _strides(shape)).sum(1)


def determinant(m: Columns) -> Tensor:
    """Determinant of k columns, k = 1, 2 or 3."""
    if len(m) == 1:
        return m[0][0]
    if len(m) == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    a, b, c = m
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


def cofactors(m: Columns) -> Columns:
    """Derivatives of the determinant: ``cofactors(m)[j][i] = d det / d m[j][i]``."""
    if len(m) == 1:
        return [[torch.ones_like(m[0][0])]]
    if len(m) == 2:
        (a, b), (c, d) = m
        return [[d, -c], [-b, a]]
    a3, b3, c3 = m
    return [_cross(b3, c3), _cross(c3, a3), _cross(a3, b3)]


def _cross(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]


def _edges(u: Tensor, axis: int) -> list[Tensor]:
    """Forward differences of x + u(x) along one axis, by component."""
    parts = list(u.diff(dim=axis + 1).unbind(0))
    parts[axis] += 1
    return parts


def _at_corner(edges: list[Tensor], axis: int, corner: int) -> list[Tensor]:
    """The edges along ``axis`` that meet one corner of every cell."""
    for other in range(len(edges)):
        if other != axis:
            n = edges[0].shape[other] - 1
            edges = [e.narrow(other, corner >> other & 1, n) for e in edges]
    return edges


def _strides(shape: tuple[int, ...]) -> Tensor:
    return torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])
