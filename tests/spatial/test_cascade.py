"""Several looks: each at the original warped once by all before it."""

from __future__ import annotations

import pytest
import torch

from regtool.api.spatial import cascade, compose, warp


def test_each_look_sees_the_original_as_warped_so_far() -> None:
    torch.manual_seed(0)
    moving, steps, seen = torch.rand(1, 1, 12, 10), torch.randn(3, 1, 2, 12, 10), []

    def look(image: torch.Tensor) -> torch.Tensor:
        seen.append(image)
        return steps[len(seen) - 1]

    found = cascade(look, moving, 3, "border")
    two = compose(steps[0], steps[1])
    assert seen[0] is moving
    assert torch.equal(seen[1], warp(moving, steps[0], padding="border"))
    assert torch.equal(seen[2], warp(moving, two, padding="border"))
    assert torch.equal(found, compose(two, steps[2]))
    seen.clear()
    again = cascade(look, moving, 1, start=two)
    assert torch.equal(seen[0], warp(moving, two, padding="zeros"))
    assert torch.equal(again, compose(two, steps[0]))
    assert cascade(look, moving, 0, start=two) is two
    with pytest.raises(ValueError, match="no passes"):
        cascade(look, moving, 0)
