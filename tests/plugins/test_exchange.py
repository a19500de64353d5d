"""What core and a method hand to each other: parts, batches, and the world of an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regtool.api import Extra, Pair, Prediction, Sample
from regtool.imaging.volume import Volume
from regtool.prepare.pair import prepare_pair
from regtool.prepare.preparation import Preparation
from regtool.prepare.tiles import cut
from regtool.spatial.frames import linear_part, to_world_field
from regtool.spatial.grid import Grid


def turned(ndim: int) -> Grid:
    """An oblique grid with voxels that are not cubes."""
    rotation, _ = np.linalg.qr(np.random.default_rng(ndim).normal(size=(ndim, ndim)))
    size, spacing = (20, 16, 12)[:ndim], (1.5, 2.0, 5.0)[:ndim]
    return Grid(size, spacing, tuple(rotation.ravel()), (3.0, -8.0, 2.0)[:ndim])


def sample_of(grid: Grid, sliced: bool = False) -> Sample:
    image = Volume(np.random.default_rng(0).random(grid.shape).astype(np.float32), grid)
    inner = grid.ndim - sliced
    preparation = Preparation.model_validate(
        {"spacing": [None] * inner, "size": [None] * inner, "multiple": 1, "orientation": "file"}
    )
    return prepare_pair(image, image, preparation, slices=0 if sliced else None).pair.fixed


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_vector_of_the_world_along_the_axes_is_what_the_field_file_says(ndim):
    """A displacement of that many millimetres along the axes is the vector in the file."""
    grid = turned(ndim)
    sample = sample_of(grid)
    wish = (1.0, -2.0, 0.5)[:ndim]
    along = sample.along_axes(wish)
    voxels = torch.tensor([mm / s for mm, s in zip(along, sample.spacing, strict=True)])
    u = voxels.reshape(-1, *[1] * ndim).expand(ndim, *grid.shape).float()
    field = to_world_field(u.contiguous(), grid, grid)
    assert np.allclose(field.reshape(-1, ndim), wish, atol=1e-4)
    assert torch.allclose(linear_part(grid).float() @ voxels.float(), torch.tensor(wish), atol=1e-5)


def test_a_slice_knows_its_plane_in_the_world():
    grid = turned(3)
    sample = sample_of(grid, sliced=True)
    assert sample.image.shape == (12, 1, 16, 20) and len(sample.directions) == 2
    normal = tuple(float(v) for v in grid.direction_matrix[:, 2])
    assert np.allclose(sample.along_axes(normal), 0, atol=1e-6)
    across = tuple(float(v) for v in grid.direction_matrix[:, 1])
    assert np.allclose(sample.along_axes(across), (1, 0), atol=1e-6)


def test_samples_keep_their_world_when_parted_cut_and_joined():
    sample = sample_of(turned(3))
    pair = Pair(sample, sample)
    assert pair.part(slice(0, 1)).fixed.directions == sample.directions
    assert pair.to("cpu").fixed.directions == sample.directions
    assert cut(pair, tuple(slice(0, 4) for _ in range(3))).fixed.directions == sample.directions
    assert Sample.joined([sample, sample]).directions == sample.directions
    assert pair.slices().fixed.directions == sample.directions[1:]
    other = Sample(sample.image, sample.spacing)
    assert Sample.joined([sample, other]).directions is None
    for unknown, vector in ((other, (1.0, 0.0, 0.0)), (sample, (1.0, 0.0))):
        with pytest.raises(ValueError, match="no vector of this image's world"):
            unknown.along_axes(vector)


def test_a_part_of_a_prediction_keeps_notes_and_leaves_tables_and_states():
    u = torch.randn(3, 2, 4, 4)
    extras = {
        "Map": Extra(u, "map"),
        "Numbers": Extra(torch.zeros(2, 2), "table"),
        "State": Extra(u, "state"),
    }
    part = Prediction(u, extras=extras, notes={"a": 1}, warnings=["b"]).part(slice(1, 2))
    assert list(part.extras) == ["Map"] and torch.equal(part.extras["Map"].tensor, u[1:2])
    assert (part.notes, part.warnings) == ({"a": 1}, ["b"])
