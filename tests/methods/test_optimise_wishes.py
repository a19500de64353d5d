"""What instance optimisation is given besides images: masks, labels, points, a start, previews."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from optimise_cases import FORMS, context, pair_with, wave

import regtool
from regtool.api import Pair, Prediction, Sample
from regtool.data.phantoms import make
from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import Optimisation
from regtool.errors import UsageError
from regtool.imaging.volume import Volume
from regtool.spatial.repair import scan_displacement
from regtool.spatial.warp import sample, warp


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
