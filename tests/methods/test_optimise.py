"""Instance optimisation: recovers known motion, respects masks, starts and stops where told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import regtool
from regtool.api import Context, Pair, Prediction, Sample
from regtool.api.refine import LENGTHS, taught
from regtool.data.phantoms import make
from regtool.data.readers import open_data
from regtool.engine.optimisation.pyramid import shapes
from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import Optimisation
from regtool.errors import UsageError
from regtool.imaging.volume import Volume
from regtool.spatial.compose import compose
from regtool.spatial.grid import Grid
from regtool.spatial.repair import scan_displacement
from regtool.spatial.smooth import gaussian
from regtool.spatial.warp import sample, warp


def context(**hooks) -> Context:
    return Context(torch.Generator().manual_seed(0), torch.device("cpu"), **hooks)


def textured(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    image = gaussian(noise, 2.0)
    return (image - image.min()) / (image.max() - image.min())


def pair_with(displacement: torch.Tensor, mask: torch.Tensor | None = None) -> Pair:
    shape = tuple(displacement.shape[2:])
    moving = textured(shape)
    fixed = warp(moving, displacement)
    spacing = (1.0,) * len(shape)
    return Pair(Sample(fixed, spacing, mask=mask), Sample(moving, spacing))


FORMS = {
    "compositive": {"update_sigma": 1.5, "total_sigma": 0.0},
    "symmetric": {"update_sigma": 1.5, "total_sigma": 0.0, "symmetric": True},
    "displacement": {"formulation": "displacement", "smoothness": 0.05, "rate": 0.1},
    "velocity": {"formulation": "velocity", "smoothness": 0.05, "rate": 0.1},
}


def wave(shape: tuple[int, ...], size: float = 2.0, seed: int = 3) -> torch.Tensor:
    """A smooth random displacement whose longest component has ``size`` voxels."""
    noise = torch.randn(1, len(shape), *shape, generator=torch.Generator().manual_seed(seed))
    true = gaussian(noise, [min(6.0, n / 4) for n in shape])
    true = true * (size / true.abs().max())
    if len(shape) == 3:
        true[:, 0] *= 0.3
    return true


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    """What is left of the true displacement, away from the border."""
    inner = (slice(None), slice(None), *(slice(3, -3) for _ in true.shape[2:]))
    return float((found - true)[inner].norm() / true[inner].norm())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("similarity", ["ncc", "mse"])
@pytest.mark.parametrize("shape", [(48, 56), (12, 32, 36)])
def test_recovers_a_smooth_displacement(form, similarity, shape):
    true = wave(shape)
    changes = dict(FORMS[form])
    if similarity == "mse" and "smoothness" in changes:
        changes["smoothness"] = 0.0005
    settings = Optimisation(similarity=similarity, window=7, iterations=(90, 90), **changes)
    found = optimise(pair_with(true), settings, context()).displacement
    assert error(found, true) < 0.5


@pytest.mark.parametrize("similarity", ["mi", "mind"])
def test_sees_through_inverted_contrast(similarity):
    true = wave((64, 64))
    pair = pair_with(true)
    pair.moving.image = 1 - pair.moving.image
    settings = Optimisation(similarity=similarity, iterations=(60, 60))
    found = optimise(pair, settings, context()).displacement
    assert error(found, true) < 0.6
    blind = optimise(pair, Optimisation("compositive", "mse", iterations=(60, 60)), context())
    assert error(blind.displacement, true) > 1


@pytest.mark.parametrize("form", FORMS)
def test_equal_images_stay_where_they_are(form):
    pair = pair_with(torch.zeros(1, 2, 40, 40))
    settings = Optimisation(iterations=(20, 20), **FORMS[form])
    assert optimise(pair, settings, context()).displacement.abs().max() < 1e-3


@pytest.mark.parametrize("form", ["symmetric", "velocity"])
def test_the_inverse_is_one_and_exchanging_the_images_gives_it(form):
    pair = pair_with(wave((56, 48)))
    settings = Optimisation(window=7, iterations=(40, 40), **FORMS[form])
    found = optimise(pair, settings, context())
    assert found.inverse is not None
    there_and_back = compose(found.displacement, found.inverse)[..., 4:-4, 4:-4]
    assert found.displacement.abs().max() > 1
    assert there_and_back.abs().max() < 0.1
    if form == "symmetric":
        other = optimise(pair.swapped(), settings, context())
        assert (other.displacement - found.inverse).abs().max() < 0.02


def test_slices_do_not_know_of_each_other():
    """A batch of slices gets the fields that each would get alone."""
    pairs = [pair_with(wave((40, 48), size, seed)) for size, seed in ((2.0, 1), (0.5, 2))]
    batch = Pair(*(
        Sample(torch.cat([getattr(p, side).image for p in pairs]), (1.0, 1.0))
        for side in ("fixed", "moving")
    ))  # fmt: skip
    settings = Optimisation(window=7, iterations=(15, 15), tolerance=0.0)
    together = optimise(batch, settings, context()).displacement
    for b, pair in enumerate(pairs):
        alone = optimise(pair, settings, context()).displacement
        assert (together[b : b + 1] - alone).abs().max() < 1e-3


def test_a_level_ends_when_nothing_is_gained():
    told = []
    settings = Optimisation(iterations=(400, 400), tolerance=0.05, window=7)
    watch = context(report=lambda done, total: told.append(done))
    optimise(pair_with(wave((48, 48))), settings, watch)
    assert len(told) < 400
    assert told[-1] == 800  # the progress bar ends nevertheless


def test_the_mask_decides_what_counts():
    true = torch.zeros(1, 2, 48, 48)
    true[:, 1] = 2.0
    nowhere = torch.zeros(1, 1, 48, 48)
    nowhere[..., :4, :4] = 1
    for mask_of in ("fixed", "moving"):
        settings = Optimisation(similarity="mse", iterations=(40, 40))
        pair = pair_with(true)
        getattr(pair, mask_of).mask = nowhere
        masked = optimise(pair, settings, context()).displacement
        whole = optimise(pair_with(true), settings, context()).displacement
        far = (slice(None), slice(1, 2), slice(30, 44), slice(10, 40))
        assert masked[far].abs().mean() < 0.3 * whole[far].abs().mean()


def test_labels_pull_where_images_say_nothing():
    flat = torch.full((1, 1, 48, 48), 0.5)
    disc = [((torch.arange(48)[:, None] - 24) ** 2 + (torch.arange(48) - c) ** 2 < 100).long()
            for c in (22, 26)]  # fmt: skip
    pair = Pair(*(Sample(flat, (1.0, 1.0), labels=d[None, None]) for d in disc))

    def dice(u):
        warped = warp(pair.moving.labels.float(), u) > 0.5
        fixed = pair.fixed.labels > 0
        return float(2 * (fixed & warped).sum() / (fixed.sum() + warped.sum()))

    for form in ("compositive", "displacement"):
        changes = {**FORMS[form], "smoothness": 0.01} if form != "compositive" else {}
        settings = Optimisation(labels=1.0, iterations=(60, 60), **changes)
        assert dice(optimise(pair, settings, context()).displacement) > 0.97
    assert dice(optimise(pair, Optimisation(iterations=(9, 9)), context()).displacement) < 0.8
    with pytest.raises(ValueError, match="label maps"):
        optimise(pair_with(wave((32, 32))), Optimisation(labels=1.0), context())


def test_landmarks_pull_where_images_say_nothing():
    flat = torch.full((1, 1, 48, 48), 0.5)
    points = torch.tensor([[[16.0, 17.5], [30.0, 31.0]]])
    moved = points + torch.tensor([[[2.0, -1.0], [-1.5, 1.0]]])
    pair = Pair(Sample(flat, (1.0, 1.0), points=points), Sample(flat, (1.0, 1.0), points=moved))
    for form in ("compositive", "velocity"):
        changes = {**FORMS[form], "smoothness": 0.001} if form == "velocity" else {}
        settings = Optimisation(landmarks=1.0, iterations=(80, 80), **changes)
        u = optimise(pair, settings, context()).displacement
        at = points.transpose(1, 2)
        left = (at + sample(u, at) - moved.transpose(1, 2)).norm(dim=1)
        assert left.max() < 0.5
    with pytest.raises(ValueError, match="points"):
        optimise(pair_with(wave((32, 32))), Optimisation(landmarks=1.0), context())


@pytest.mark.parametrize("form", FORMS)
def test_a_start_is_kept_when_nothing_is_left_to_gain(form):
    true = torch.zeros(1, 2, 40, 40)
    true[:, 0] = 3.0
    changes = {**FORMS[form], "rate": 0.02}
    if "smoothness" in changes:
        changes["smoothness"] = 0.0
    settings = Optimisation(similarity="mse", iterations=(10,), **changes)
    found = optimise(pair_with(true), settings, context(), start=true).displacement
    assert (found - true).abs().mean() < 0.1


def test_an_exhaustive_search_finds_what_gradients_miss():
    true = torch.zeros(1, 2, 96, 96)
    true[:, 1] = 11.0
    far = []
    for convex in (False, True):
        settings = Optimisation(iterations=(30, 30, 30), convex=convex, update_sigma=2.0)
        found = optimise(pair_with(true), settings, context()).displacement
        far.append(error(found[..., 12:-12], true[..., 12:-12]))
    assert far[1] < 0.25 < far[0]


def test_previews_may_stop_it_and_progress_is_told():
    seen, told = [], []

    def preview(level, prediction):
        seen.append(tuple(prediction.displacement.shape))
        return False

    optimise(
        pair_with(torch.zeros(1, 2, 64, 64)), Optimisation(iterations=(3, 3, 3)),
        context(preview=preview, report=lambda done, total: told.append((done, total))),
    )  # fmt: skip
    assert seen == [(1, 2, 64, 64)]
    assert told == [(1, 9), (2, 9), (3, 9)]


@pytest.mark.parametrize("stop", [0, 1])
def test_what_a_preview_saw_and_kept_has_no_fold(stop):
    """Fields that fold on a coarse level, were they not mended."""
    generator = torch.Generator().manual_seed(3)
    image, other = torch.rand(2, 1, 1, 96, 80, generator=generator)
    pair = Pair(Sample(image, (1.0, 1.0)), Sample(other, (1.0, 1.0)))
    rough = Optimisation(iterations=(20, 20, 2), rate=1.0, update_sigma=0.7, total_sigma=0.0)
    seen = []

    def preview(level, prediction):
        seen.append(prediction.displacement.clone())
        return level < stop

    found = optimise(pair, rough, context(preview=preview))
    assert len(seen) == stop + 1
    assert torch.equal(found.displacement, seen[-1])
    assert scan_displacement(found.displacement).count == 0


def test_a_script_sees_previews_and_may_stop_it():
    made = make("heart2d", 0, 64)
    fixed, moving = (Volume(np.asarray(getattr(made, n)), made.grid) for n in ("fixed", "moving"))
    given = {"settings": {"iterations": "20,20,20"}, "threads": 1}
    seen = []

    def preview(level: int, prediction: Prediction) -> bool:
        seen.append((level, prediction.displacement.abs().max()))
        return np.bool_(level < 1)

    stopped = regtool.register(fixed, moving, "optimise", preview=preview, **given)
    assert [level for level, _ in seen] == [0, 1]
    assert stopped.record["jacobian"]["count"] == 0
    local = stopped.record["similarity"]["local_ncc"]
    assert local["after"] > local["before"]
    levels = []
    whole = regtool.register(fixed, moving, "optimise", preview=lambda n, _: levels.append(n),
                             **given)  # fmt: skip
    alone = regtool.register(fixed, moving, "optimise", **given)
    assert levels == [0, 1, 2], "an answer of None lets it go on"
    assert np.array_equal(whole.field, alone.field) and not np.array_equal(
        stopped.field, alone.field
    )
    with pytest.raises(UsageError, match="preview: method 'rigid'"):
        regtool.register(fixed, moving, "rigid", preview=preview)


@pytest.mark.parametrize("wrong", [
    {"symmetric": True, "formulation": "velocity"}, {"symmetric": True, "labels": 1.0},
    {"iterations": ()},
])  # fmt: skip
def test_settings_that_exclude_each_other(wrong):
    with pytest.raises(ValueError):
        Optimisation(**wrong)


def test_thin_stacks_keep_their_slices():
    assert shapes((10, 256, 200), (10.0, 1.5, 1.5), 3) == [
        (10, 64, 50), (10, 128, 100), (10, 256, 200),
    ]  # fmt: skip


def test_dice_of_a_beating_heart_rises():
    phantom = make("heart2d", seed=1)
    images = [
        Volume(array, phantom.grid)
        for array in (phantom.fixed, phantom.moving, phantom.fixed_labels, phantom.moving_labels)
    ]
    record = regtool.register(
        images[0], images[1], "optimise", fixed_labels=images[2], moving_labels=images[3]
    ).record
    before, after = (record["dice"][when]["mean"] for when in ("before", "after"))
    assert after > before + 0.2
    assert record["jacobian"]["percent"] < 1
    assert record["similarity"]["ncc"]["after"] > record["similarity"]["ncc"]["before"]


def test_dice_of_real_hearts_rises(shared_data):
    pairs = [p for p in open_data(f"acdc:{shared_data / 'acdc'}") if p.split == "val"]
    gains = []
    for pair in pairs[1:3]:
        record = regtool.register(
            pair.fixed.image, pair.moving.image, "optimise", slices="z",
            settings={"similarity": "mse", "iterations": (40, 30)},
            fixed_labels=pair.fixed.labels, moving_labels=pair.moving.labels,
        ).record  # fmt: skip
        gains.append(record["dice"]["after"]["mean"] - record["dice"]["before"]["mean"])
    assert np.mean(gains) > 0.1


@pytest.mark.parametrize("shape", [(72, 80), (40, 48, 44)])
@pytest.mark.parametrize("form", FORMS)
def test_air_around_the_content_is_left_out(form, shape):
    """The box of the content is computed as if it were all; the field goes on as at its border."""
    low, high = (20, 22, 15)[: len(shape)], (44, 50, 33)[: len(shape)]
    place = torch.zeros(1, 1, *shape)
    place[(..., *(slice(a, b) for a, b in zip(low, high, strict=True)))] = 1
    pair = pair_with(0.5 * wave(shape))
    for side, sign in ((pair.fixed, 0.0), (pair.moving, 1.5)):
        side.image = side.image * place
        side.points = torch.tensor([[[a + 4.0 + sign for a in low]]])
        side.mask = gaussian(place, 3.0)
    box = tuple(slice(max(0, a - 8), b + 8) for a, b in zip(low, high, strict=True))
    inside = Pair(*(Sample(s.image[(..., *box)], s.spacing, s.mask[(..., *box)],
                           points=s.points - torch.tensor([b.start for b in box]))
                    for s in (pair.fixed, pair.moving)))  # fmt: skip
    more = {} if form == "symmetric" else {"landmarks": 0.5}
    settings = Optimisation(iterations=(10, 5), **FORMS[form], **more)
    seen: list[torch.Size] = []

    def look(level, found):
        seen.append(found.displacement.shape[2:])
        return True

    whole = optimise(pair, settings, context(preview=look))
    part = optimise(inside, settings, context())
    assert seen == [torch.Size(shape)] * 2
    assert torch.equal(whole.displacement[(..., *box)], part.displacement)
    assert (whole.inverse is None) == (part.inverse is None)
    outermost = whole.displacement.movedim(2, 0)
    assert torch.equal(outermost[0], outermost[box[0].start])
    assert part.displacement.abs().max() > 0.02


def test_lengths_may_differ_from_level_to_level():
    given = Optimisation(iterations=(5, 5, 5), window=(9, 5), update_sigma=(4.0, 3.0, 2.0, 1.0))
    found = [given.at_level(number) for number in range(3)]
    assert [level.window for level in found] == [9, 9, 5]
    assert [level.update_sigma for level in found] == [3.0, 2.0, 1.0]
    assert [level.total_sigma for level in found] == [0.5] * 3


def test_balance_brings_regions_of_weak_contrast_along():
    """Half of the image has a third of the contrast; both halves have moved."""
    true = wave((64, 64))
    pair = pair_with(true)
    weaker = torch.where(torch.arange(64) < 32, 0.3, 1.0)
    for side in (pair.fixed, pair.moving):
        side.image = side.image * weaker

    def left(balance: float) -> float:
        settings = Optimisation(
            similarity="mse", iterations=(30,), balance=balance, update_sigma=2.0, total_sigma=0.0
        )
        found = optimise(pair, settings, context()).displacement
        return error(found[..., :28], true[..., :28])

    assert left(0.9) < 0.75 * left(0.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_compositive_answer_never_folds(seed):
    pair = pair_with(wave((24, 30, 28), 6.0, seed))
    settings = Optimisation(iterations=(40, 40), update_sigma=0.8, total_sigma=0.0)
    found = optimise(pair, settings, context()).displacement
    assert scan_displacement(found).count == 0
    assert found.abs().max() > 1


@pytest.mark.parametrize("wrong", ["window=4", "balance=1", "update_sigma=-1", "iterations=0.5"])
def test_options_that_make_no_sense_are_refused(wrong, tmp_path):
    grid_image = Volume(np.random.default_rng(0).random((20, 20), np.float32), Grid(
        (20, 20), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0)))  # fmt: skip
    with pytest.raises(UsageError):
        regtool.register(grid_image, grid_image, "optimise", settings=[wrong])


@pytest.mark.parametrize("shape", [(24, 24), (8, 16, 16)])
def test_a_teacher_has_the_lengths_of_its_images_dimension(shape):
    smooth = gaussian(torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(0)), 2.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    pair = Pair(*(Sample(image, (1.0,) * len(shape)) for image in smooth.split(1, 1)))
    context = Context(torch.Generator(), torch.device("cpu"))
    settings = Optimisation(iterations=(60, 60, 15), tolerance=0.03, **LENGTHS[len(shape)])
    assert torch.equal(taught(pair, context), optimise(pair, settings, context).displacement)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_record_tells_the_values_that_ran_on_every_level(ndim):
    size = (64, 64, 12)[:ndim]
    image = Volume(textured(size[::-1])[0, 0].numpy(), Grid(
        size, (1.0, 1.0, 2.0)[:ndim], tuple(np.eye(ndim).ravel()), (0.0,) * ndim))  # fmt: skip
    settings = ["preset=accurate", "iterations=3,2,1"]
    told = regtool.register(image, image, "optimise", settings=settings).record["settings"]
    assert told["iterations"] == [3, 2, 1]
    assert told["window"] == [LENGTHS[ndim]["window"]] * 3
    if ndim == 2:
        assert told["shrink"] == [[4, 4], [2, 2], [1, 1]]
        assert told["update_sigma"] == [3.0] * 3
    else:  # the widely spaced axis is halved later
        assert told["shrink"] == [[4, 4, 1], [2, 2, 1], [1, 1, 1]]
        assert told["update_sigma"] == [3.0, 2.0, 1.5]
        assert told["total_sigma"] == [0.5, 0.4, 0.35]
    assert (told["tolerance"], told["rate"], told["symmetric"]) == (0.003, 0.5, False)
    assert (told["smoothness"], told["balance"]) == (0.0, 0.9)
    assert None not in told.values()


def test_the_values_of_adam_and_of_a_refinement_are_told_too():
    image = Volume(textured((48, 48))[0, 0].numpy(), Grid(
        (48, 48), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0)))  # fmt: skip
    settings = ["formulation=velocity", "similarity=mi", "iterations=2,1"]
    record = regtool.register(image, image, "optimise", settings=settings, refine=1).record
    told = record["settings"]
    assert (told["rate"], told["smoothness"], told["bins"]) == (0.1, 0.5, 32)
    assert (told["shrink"], told["iterations"]) == ([[2, 2], [1, 1]], [2, 1])
    assert "update_sigma" not in told
    refined = record["refine"]["settings"]
    assert refined["similarity"] == "ncc"
    assert refined["window"] == [7, 7, 7]
