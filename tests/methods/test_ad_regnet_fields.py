"""AD-RegNet: units across levels, the fusion of their fields."""

from __future__ import annotations

import pytest
import torch
from ad_regnet_cases import aided, images, tiny

from regtool.spatial.compose import compose
from regtool.spatial.integrate import integrate
from regtool.spatial.warp import warp
from regtool_ad_regnet.fusion import enlarged


def test_a_constant_coarse_field_is_worth_its_voxels_at_full_size():
    """One voxel of level l is 2**l voxels of the image, wherever it is read."""
    field = torch.ones(1, 3, 2, 3, 2)
    for level in (1, 2, 3):
        wide = enlarged(field, 2**level)
        assert torch.allclose(wide, torch.full((), 2.0**level))
        field_by_steps = field
        for _ in range(level):
            field_by_steps = enlarged(field_by_steps)
        assert torch.allclose(field_by_steps, wide)


def test_enlarged_fields_lie_where_strided_convolutions_put_them():
    """A linear field stays linear with its middle in place: voxel j covers 2 j and 2 j + 1."""
    coarse = torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(1, 3, 6, 4, 4)
    fine = enlarged(coarse)[0, 0, :, 2, 2]
    where = (torch.arange(12.0) - 0.5) / 2
    assert torch.allclose(fine[1:-1], 2 * where[1:-1])


@pytest.mark.parametrize("make", [tiny, aided])
def test_without_weight_the_result_is_the_enlarged_coarsest_field(make):
    """METHODS 10.6: W = 0 everywhere; a mask of zeros for M_l does it."""
    network = make()
    fixed, moving = images()
    with torch.no_grad():
        found = network(fixed, moving, torch.zeros_like(fixed))
        expected = enlarged(enlarged(found.levels[0]))
        assert expected.abs().max() > 1e-3
        assert torch.allclose(found.displacement, expected, atol=1e-5)
        whole = network(fixed, moving)
        assert torch.allclose(whole.levels[0], found.levels[0])
        assert not torch.allclose(whole.displacement, expected, atol=1e-3)


def test_blend_by_hand():
    network = tiny()
    fixed, moving = images()
    with torch.no_grad():
        found = network(fixed, moving)
    for coarse, level in zip(found.answers, found.answers[1:], strict=False):
        w, up = level.weight, enlarged(coarse.field)
        assert (w > 0).all() and (w < 1).all() and (w <= level.importance).all()
        assert torch.allclose(level.field, w * level.update + (1 - w) * up, atol=1e-6)
    assert found.answers[0].weight is None
    assert torch.equal(found.answers[0].field, found.answers[0].update)
    assert torch.equal(found.displacement, found.levels[-1])


def test_compose_by_hand():
    """Phi_l(x) = W phi_l(x) + up(Phi)(x + W phi_l(x)): what a second warp would do, in one."""
    network = aided(integrate=0)
    fixed, moving = images()
    with torch.no_grad():
        found = network(fixed, moving)
        middle, fine = found.answers[1:]
        step = fine.weight * fine.update
        above = enlarged(middle.field)
        assert torch.allclose(found.displacement, compose(above, step), atol=1e-6)
        assert torch.allclose(found.displacement, step + warp(above, step), atol=1e-6)


def test_velocities_are_integrated_once_in_a_blend_and_level_by_level_in_a_chain():
    fixed, moving = images()
    with torch.no_grad():
        blended, chained = tiny(integrate=3)(fixed, moving), aided(integrate=3)(fixed, moving)
    assert torch.allclose(blended.displacement, integrate(blended.answers[-1].field, 3))
    coarse, middle, fine = chained.answers
    step = integrate(fine.weight * fine.update, 3)
    assert torch.allclose(chained.displacement, compose(enlarged(middle.field), step), atol=1e-6)
    assert torch.allclose(coarse.field, integrate(coarse.update, 3))


def test_a_guided_network_reads_the_moving_features_where_the_coarser_field_points():
    network = aided(integrate=0)
    level, moving = network.level(0), torch.rand(1, 4, 8, 8, 8)
    coarse = torch.zeros(1, 3, 4, 4, 4)
    coarse[:, 1] = 1  # one coarse voxel along y: two here
    read = level.read(moving, coarse)
    assert torch.allclose(read[:, :, :, :6], moving[:, :, :, 2:], atol=1e-5)
    assert tiny().level(0).read(moving, coarse) is moving


def test_a_mask_stands_for_the_regional_map():
    network = tiny()
    fixed, moving = images()
    mask = torch.zeros_like(fixed)
    mask[..., 8:] = 1
    with torch.no_grad():
        found = network(fixed, moving, mask)
    weight = found.answers[-1].weight
    assert not weight[..., :8].any() and (weight[..., 8:] > 0).all()
    coarse = enlarged(found.levels[1])
    assert torch.allclose(found.displacement[..., :8], coarse[..., :8], atol=1e-6)
