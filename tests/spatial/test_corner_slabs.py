"""The scan for folds: slab by slab as in one piece, on every axis and for every field."""

from __future__ import annotations

import math

import pytest
import torch

from regtool.spatial import corners
from regtool.spatial.corners import scan


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 7)])
def test_slabs_find_what_the_whole_finds(shape, monkeypatch):
    g = torch.Generator().manual_seed(0)
    u = torch.randn(len(shape), 3, *shape, generator=g, dtype=torch.float64) * 0.4
    whole = scan(u, 1e-3)
    monkeypatch.setattr(corners, "_SLAB", 2 * math.prod(shape[1:]))
    assert whole.count > 0 and 0 < whole.cells.numel() < u[0].numel()
    found = scan(u, 1e-3)
    assert (found.count, found.min) == (whole.count, whole.min)
    assert torch.equal(found.cells, whole.cells)


def test_one_fold_far_along_each_axis_is_where_it_is(monkeypatch):
    monkeypatch.setattr(corners, "_SLAB", 20)
    for axis in range(3):
        u = torch.zeros(3, 2, 6, 5, 4)
        u[axis, 1, 4, 2, 1] = 1.5
        cells = scan(u).cells
        assert cells.numel() > 0
        field, rest = cells // 120, cells % 120
        places = torch.stack([rest // 20, rest // 4 % 5, rest % 4], 1)
        assert (field == 1).all()
        assert ((places - torch.tensor([4, 2, 1])).abs() <= 1).all()
