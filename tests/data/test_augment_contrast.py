"""Invented contrasts: geometry, labels and the compared image stay; draws can be repeated."""

from __future__ import annotations

import pytest
import torch

from regtool.data.augment import Augment, augment
from regtool.data.augment_contrast import synthesised, transferred
from regtool.data.draws import smooth_field
from regtool.plugins.exchange import Pair, Sample

BOTH = Augment(synthesis=0.5, transfer=1.0)
EVERY = Augment(
    flip=("x",), rotation=10, synthesis=0.5, transfer=0.5, bias=0.3, blur=1.0, noise=0.05
)
SHAPE = (12, 20, 20)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head(labels: bool = True, batch: int = 1) -> Sample:
    """Three nested balls of different brightness and texture in an empty surrounding."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    radius = sum(a * a for a in axes).sqrt()
    kind = (radius < 0.9).long() + (radius < 0.6).long() + (radius < 0.3).long()
    base = torch.tensor([0.0, 0.3, 0.55, 0.9])[kind]
    grain = 0.04 * torch.randn(SHAPE, generator=generator(9))
    image = torch.where(kind > 0, base + grain, 0.0).clamp(0, 1)
    return Sample(
        image.expand(batch, 1, *SHAPE).clone(),
        (1.0, 1.0, 1.0),
        labels=kind.expand(batch, 1, *SHAPE).clone() if labels else None,
    )


def pair_of(labels: bool = True) -> Pair:
    return Pair(head(labels), head(labels))


def test_off_by_default():
    pair = pair_of()
    after = augment(pair, Augment(), generator())
    assert after.fixed.original is None
    assert torch.equal(after.fixed.image, pair.fixed.image)
    assert after.fixed.compared is after.fixed.image


def test_the_compared_image_and_the_labels_stay_as_they_were():
    pair = pair_of()
    after = augment(pair, BOTH, generator())
    for new, old in ((after.fixed, pair.fixed), (after.moving, pair.moving)):
        assert torch.equal(new.compared, old.image)
        assert torch.equal(new.labels, old.labels)
        assert not torch.allclose(new.image, old.image, atol=0.05)
        assert float(new.image.min()) >= 0
        assert float(new.image.max()) <= 1
    assert not torch.allclose(after.fixed.image, after.moving.image, atol=0.05)


def test_geometry_is_that_of_the_same_draw_without_contrasts():
    """Flips and turns are drawn first, so the original is what plain augmentation gives."""
    pair = pair_of()
    plain = Augment(flip=("x",), rotation=10)
    for seed in range(3):
        one, other = augment(pair, EVERY, generator(seed)), augment(pair, plain, generator(seed))
        for new, old in ((one.fixed, other.fixed), (one.moving, other.moving)):
            assert torch.equal(new.compared, old.image)
            assert torch.equal(new.labels, old.labels)


def test_draws_repeat_and_differ_between_seeds():
    def drawn(seed: int) -> torch.Tensor:
        return augment(pair_of(), EVERY, generator(seed)).moving.image

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_a_synthesis_paints_regions_and_keeps_their_borders():
    """Within a label the new value is a line in the old one, but for the smooth texture."""
    sample = head()
    assert sample.labels is not None
    kept = 0
    for seed in range(8):
        new = synthesised(sample.image[0], sample.labels[0], generator(seed))
        kept += bool((new[0][sample.labels[0, 0] == 0] == 0).all())
        for label in (1, 2, 3):
            inside = sample.labels[0, 0] == label
            value = new[0][inside]
            unclipped = (value > 0) & (value < 1)
            if int(unclipped.sum()) < 50 or float(value.std()) < 0.05:
                continue
            both = torch.stack([sample.image[0, 0][inside][unclipped], value[unclipped]])
            assert abs(float(torch.corrcoef(both)[0, 1])) > 0.3
    assert 3 <= kept <= 8  # the background mostly stays empty


def test_the_order_of_brightness_is_lost():
    """Over many draws no tissue stays the brightest."""
    sample = head()
    assert sample.labels is not None
    brightest = set()
    for seed in range(30):
        new = synthesised(sample.image[0], sample.labels[0], generator(seed))
        means = [float(new[0][sample.labels[0, 0] == k].mean()) for k in (1, 2, 3)]
        brightest.add(max(range(3), key=means.__getitem__))
    assert brightest == {0, 1, 2}


def test_labels_that_look_alike_mostly_go_on_doing_so():
    """A ball cut into two labels gets one contrast far more often than two."""
    sample = head()
    assert sample.labels is not None
    labels = sample.labels[0].clone()
    labels[(labels == 2) & (torch.arange(SHAPE[-1]) > 9)] = 7
    alike = 0
    for seed in range(30):
        new = synthesised(sample.image[0], labels, generator(seed))[0]
        gap = abs(float(new[labels[0] == 2].mean() - new[labels[0] == 7].mean()))
        alike += gap < 0.2
    assert alike >= 20


def test_a_curve_depends_on_the_value_alone():
    image = torch.rand(1, 8, 8, 8, generator=generator()) * 0.9 + 0.05
    image[0, 0, 0, :2] = image[0, 1, 0, :2]
    rising = falling = 0
    for seed in range(30):
        new = transferred(image, generator(seed))
        assert torch.equal(new[0, 0, 0, :2], new[0, 1, 0, :2])
        order = image.flatten().argsort()
        steps = new.flatten()[order].diff()
        rising += bool((steps >= -1e-6).all())
        falling += bool((steps <= 1e-6).all())
    assert rising >= 4
    assert falling >= 4
    assert rising + falling < 30


def test_without_labels_only_curves_are_drawn():
    pair = pair_of(labels=False)
    untouched = augment(pair, Augment(synthesis=1.0), generator())
    assert torch.equal(untouched.fixed.image, pair.fixed.image)
    assert not torch.equal(augment(pair, BOTH, generator()).fixed.image, pair.fixed.image)


def test_large_labels_and_plain_images_do_not_break_it():
    sample = head()
    assert sample.labels is not None
    labels = sample.labels[0] * 2035
    assert torch.isfinite(synthesised(sample.image[0], labels, generator())).all()
    flat = torch.full((1, *SHAPE), 0.5)
    for made in (
        synthesised(flat, torch.zeros(1, *SHAPE, dtype=torch.int64), generator()),
        synthesised(flat * 0, torch.zeros(1, *SHAPE, dtype=torch.int64), generator()),
        transferred(flat, generator()),
    ):
        assert torch.isfinite(made).all()


@pytest.mark.parametrize("shape", [(12, 20, 20), (20, 24)])
def test_smooth_fields_are_smooth_and_bounded(shape):
    field = smooth_field(generator(), shape, 3)
    assert field.shape == shape
    assert float(field.abs().max()) <= 1
    assert float(field.std()) > 0.05
    assert max(float(field.diff(dim=axis).abs().max()) for axis in range(len(shape))) < 0.5


def test_shading_and_blur_work_in_two_dimensions():
    sample = Sample(torch.rand(2, 1, 16, 18, generator=generator()), (1.0, 1.0))
    after = augment(Pair(sample, sample), Augment(bias=0.5, blur=1.0, transfer=1.0), generator())
    assert after.fixed.image.shape == sample.image.shape
    assert torch.equal(after.fixed.compared, sample.image)


def test_the_original_goes_where_the_image_goes():
    pair = augment(
        Pair(head(batch=2), head(batch=2)), Augment(transfer=1.0, noise=0.1), generator()
    )
    assert torch.equal(pair.part(slice(1, 2)).fixed.compared, pair.fixed.compared[1:])
    assert torch.equal(pair.to("cpu").moving.compared, pair.moving.compared)
    again = Pair.joined([pair.part(slice(0, 1)), pair.part(slice(1, 2))])
    assert torch.equal(again.fixed.compared, pair.fixed.compared)
    slices = pair.slices().fixed
    assert torch.equal(slices.compared[:12], pair.fixed.compared[0].transpose(0, 1))
    assert not torch.equal(slices.compared, slices.image)
