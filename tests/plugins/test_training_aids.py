"""What several losses share: words, chances, second looks."""

from __future__ import annotations

import pytest
import torch

from regtool.api import Pair, Sample, UsageError
from regtool.api.spatial import warp
from regtool.api.train import chance, choice, roughness, second_look


def test_a_word_is_one_of_those_allowed() -> None:
    assert choice({"units": "mm"}, "units", ("voxels", "mm")) == "mm"
    with pytest.raises(UsageError, match=r"^units 'cm': give voxels or mm$"):
        choice({"units": "cm"}, "units", ("voxels", "mm"))
    with pytest.raises(UsageError, match=r"^network\.form 'a': give x, y or z$"):
        choice({"form": "a"}, "form", {"x": 1, "y": 2, "z": 3}, within="network")
    with pytest.raises(UsageError, match=r"\[1\]: give only$"):
        choice({"form": [1]}, "form", ["only"])


def test_a_chance_draws_only_where_it_has_one() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert not chance(generator, 0.0)
    assert torch.equal(generator.get_state(), before)
    assert chance(generator, 1.0)
    happened = sum(chance(generator, 0.25) for _ in range(1000))
    assert 200 < happened < 300


def test_a_second_look_warps_the_original_too_and_leaves_companions_out() -> None:
    image, original, fixed = torch.rand(3, 1, 1, 8, 8)
    labels = torch.ones(1, 1, 8, 8, dtype=torch.int64)
    moving = Sample(image, (2.0, 1.0), labels=labels, original=original)
    pair = Pair(Sample(fixed, (2.0, 1.0), labels=labels), moving, torch.zeros(1, 2, 8, 8))
    u = torch.full((1, 2, 8, 8), 1.5)
    seen = second_look(pair, u)
    assert seen.fixed is pair.fixed and seen.field is None and seen.moving.labels is None
    assert torch.equal(seen.moving.image, warp(image, u, padding="zeros"))
    assert torch.equal(seen.moving.compared, warp(original, u, padding="zeros"))
    assert second_look(Pair(pair.fixed, Sample(image, (2.0, 1.0))), u).moving.original is None


def test_roughness_in_millimetres_lets_thick_slices_move_apart() -> None:
    u = torch.zeros(1, 2, 8, 8)
    u[:, 1] = torch.arange(8.0)[:, None]
    pair = Pair(*(Sample(torch.zeros(1, 1, 8, 8), (4.0, 1.0)) for _ in range(2)))
    assert float(roughness(u, pair, "voxels")) == pytest.approx(1 / 4)
    assert float(roughness(u, pair, "mm")) == pytest.approx(1 / 4 / 16)
