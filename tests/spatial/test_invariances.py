"""What may not change an answer: the unit of length, other fields of a batch, how it is cut."""

from __future__ import annotations

import numpy as np
import torch
from fold_cases import noise_field, smooth_noise

from regtool.losses import box
from regtool.spatial.jacobian import jacobian_determinant
from regtool.spatial.repair import repair
from regtool.spatial.repair_field import repair_field


def test_forward_determinants_of_a_batch_are_those_of_each_field() -> None:
    fields = torch.randn(3, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0)) / 10
    together = jacobian_determinant(fields, scheme="forward")
    assert together.shape == (3, 4, 5, 6)
    for one, alone in zip(together, fields, strict=True):
        torch.testing.assert_close(one, jacobian_determinant(alone[None], scheme="forward")[0])


def test_a_repair_in_other_units_of_length_moves_the_same_voxels() -> None:
    drawn = smooth_noise((14, 16), 0.8, 1.0, seed=4)
    u = torch.from_numpy(np.moveaxis(drawn, -1, 0)[None])
    millimetres = repair(u, (1.5, 6.0))
    assert not torch.equal(millimetres, u)
    torch.testing.assert_close(repair(u, (1500.0, 6000.0)), millimetres, rtol=0, atol=1e-9)


def test_a_field_without_folds_is_returned_with_empty_counts() -> None:
    field, grid = noise_field((9, 10, 8), "oblique", 0.01, 2.0, seed=1)
    same, told = repair_field(field, grid)
    assert same is field
    assert (told.before.central, told.before.corner) == (0, 0)
    assert (told.after.central, told.after.corner) == (0, 0)
    assert told.changed_voxels == 0 and told.changed_percent == 0.0


def test_sums_block_by_block_take_every_channel(monkeypatch) -> None:
    x = torch.randn(1, 3, 9, 10, 11, generator=torch.Generator().manual_seed(2))
    whole = box.box_sum(x, (3, 5, 3))
    monkeypatch.setattr(box, "_BLOCK", 200 // torch.get_num_threads())
    torch.testing.assert_close(box.box_sums([(x, None)], (3, 5, 3))[0], whole)
