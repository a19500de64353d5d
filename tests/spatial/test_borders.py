"""What lies at and beyond the borders: labels outside, single voxels, starts, refusals."""

from __future__ import annotations

import pytest
import torch

from regtool.spatial.invert import invert
from regtool.spatial.jacobian import folds, jacobian_determinant
from regtool.spatial.repair import repair
from regtool.spatial.resize import resize, resize_image
from regtool.spatial.smooth import separable_filter
from regtool.spatial.warp import sample, warp_labels


@pytest.mark.parametrize("method", ["nearest", "label"])
@pytest.mark.parametrize("labels", [[[-3, 7, 7], [7, -3, 2]], [[0, 7, 7], [7, 0, 2]]])
def test_label_zero_lies_outside_where_zeros_are_asked_for(method, labels):
    """Whether or not the map has a label 0 of its own, and among negative labels."""
    image = torch.tensor([[labels]])
    u = torch.zeros(1, 2, 2, 3)
    assert torch.equal(warp_labels(image, u, method, padding="zeros"), image)
    u[:, 1] = 1.0
    moved = warp_labels(image, u, method, padding="zeros")
    assert torch.equal(moved[..., :2], image[..., 1:])
    assert (moved[..., 2] == 0).all()
    edge = warp_labels(image, u, method)
    assert torch.equal(edge[..., 2], image[..., 2])
    u[:, 1] = 9.0
    assert (warp_labels(image, u, method, padding="zeros") == 0).all()


def test_points_of_any_number_of_dimensions_are_sampled_alike():
    image = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    points = torch.rand(2, 2, 6, 7, generator=torch.Generator().manual_seed(1)) * 3
    field = sample(image, points)
    assert field.shape == (2, 3, 6, 7)
    torch.testing.assert_close(sample(image, points.flatten(2)).reshape(2, 3, 6, 7), field)
    outside = torch.full((2, 2, 1), 40.0)
    assert (sample(image, outside, padding="zeros") == 0).all()
    torch.testing.assert_close(sample(image, outside)[..., 0], image[:, :, -1, -1])


def test_the_inverse_starts_at_minus_u_and_its_residual_is_the_worst_of_the_batch():
    g = torch.Generator().manual_seed(0)
    wild = torch.randn(1, 2, 9, 9, generator=g) * 3
    calm = torch.full((1, 2, 9, 9), 0.5)
    inverse, _ = invert(wild, iterations=0)
    assert torch.equal(inverse, -wild)
    worst = invert(wild, iterations=3)[1]
    assert worst > 0.5 > invert(calm, iterations=3)[1]
    for pair in ((wild, calm), (calm, wild)):
        assert invert(torch.cat(pair), iterations=3)[1] == pytest.approx(worst)


def test_single_voxels_have_nothing_to_repair():
    u = torch.tensor([[5.0, -7.0]]).reshape(1, 2, 1, 1)
    assert torch.equal(repair(u), u.double())
    for shape in ((0, 2, 4, 4), (1, 2, 0, 5)):
        assert repair(torch.zeros(shape)).shape == shape


def test_a_resize_to_the_same_shape_is_the_same():
    u = torch.rand(1, 2, 4, 5)
    assert resize(u, (4, 5)) is u and resize_image(u, (4, 5)) is u
    with pytest.raises(ValueError, match="interpolation"):
        resize_image(u, (5, 5), mode="cubic")  # type: ignore[arg-type]


def test_refusals():
    u = torch.zeros(1, 2, 4, 5)
    with pytest.raises(ValueError, match="scheme"):
        jacobian_determinant(u, scheme="backward")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="displacement"):
        jacobian_determinant(torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match="mask"):
        folds(torch.ones(4, 5), torch.ones(5, 4))
    with pytest.raises(ValueError, match="border"):
        separable_filter(u, [[0.2, 0.6, 0.2]] * 2, "zeros")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        warp_labels(torch.zeros(1, 1, 0, 5).long(), u[:, :, :0], "label")
