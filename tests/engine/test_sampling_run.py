"""Sampling as a user asks for it: samples, previews, stopping, resuming, warm starts, steering."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import sampled_method
import torch

import regtool
from regtool.data.phantoms import make
from regtool.engine.extras import read_state
from regtool.engine.register import Registration, run
from regtool.engine.request import Request
from regtool.errors import InputError, Interrupted, PluginError, UsageError
from regtool.imaging.transforms import read_field, write_field
from regtool.imaging.volume import Volume
from regtool.plugins.exchange import Context, Pair, Prediction, Sample
from regtool.record import read_record, sha256
from regtool.spatial.grid import Grid
from regtool.testing import Subject
from regtool.testing.network import (
    check_default_dtype,
    check_no_grad,
    check_prediction,
    check_seed,
    check_state_dict,
)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Iterator[None]:
    """The method as if it were installed."""
    for place in sampled_method.install(tmp_path / "site"):
        monkeypatch.syspath_prepend(place)
    yield


@pytest.fixture(scope="module")
def images() -> dict[str, Volume]:
    """A generated heart, and its labels, on a turned grid."""
    made = make("heart2d", 0, 64)
    c, s = np.cos(0.4), np.sin(0.4)
    old = made.grid
    grid = Grid(old.size, (2.0, 3.0), (c, -s, s, c), (5.0, -7.0))
    names = ("fixed", "moving", "fixed_labels", "moving_labels")
    return {name: Volume(np.asarray(getattr(made, name)), grid) for name in names}


def registered(images: dict[str, Volume], output: Path | None = None, **given: Any) -> Registration:
    """Register with options of the method; names of Request may be among them."""
    more = {k: given.pop(k) for k in list(given) if k in Request.__dataclass_fields__}
    stop = given.pop("asking", None)
    request = Request(
        images["fixed"], images["moving"], "sampled", settings=given,
        output=None if output is None else f"{output}/r_", **more,
    )  # fmt: skip
    return run(request, stop=stop)


def labelled(images: dict[str, Volume]) -> dict[str, Volume]:
    return {name: images[name] for name in ("fixed_labels", "moving_labels")}


class Asking:
    """Someone who asks to stop at the n-th question."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def __enter__(self):
        return self

    def __exit__(self, *gone) -> None:
        self.at = 10**9

    def __call__(self) -> bool:
        self.count += 1
        return self.count >= self.at


@pytest.mark.parametrize(
    "check", [check_prediction, check_seed, check_no_grad, check_default_dtype, check_state_dict]
)
def test_sampling_keeps_to_the_contract(check):
    check(Subject("sampled", shapes={2: (24, 32), 3: (8, 12, 16)}))


def test_a_record_tells_how_the_field_was_sampled(images):
    record = registered(images, steps=7, eta=0.5, seed=3).record
    sampling = record["sampling"]
    assert [sampling[k] for k in ("sampler", "steps", "eta", "levels", "seed")] == [
        "ddim", 7, 0.5, 2000, 3]  # fmt: skip
    (one,) = sampling["samples"]
    assert (one["steps"], one["stopped_at"], one["scores"]["t"]) == (7, None, 0.0)
    assert "stopped_at" not in record and record["warnings"] == []


def test_samples_give_their_mean_and_how_far_they_lie_apart(images, tmp_path):
    """SD 0.6 voxels of 3 and 2 mm: sqrt((0.6 * 3)^2 + (0.6 * 2)^2) mm."""
    one = registered(images, spread=0.6, steps=100)
    many = registered(images, tmp_path, spread=0.6, samples=8, steps=100)
    apart = np.asarray(nib.load(tmp_path / "r_Deviation.nii.gz").dataobj)
    assert apart.mean() == pytest.approx(0.6 * np.hypot(3.0, 2.0), rel=0.1)
    assert len(many.record["sampling"]["samples"]) == 8
    rough, smooth = (np.abs(np.diff(r.field, axis=0)).mean() for r in (one, many))
    assert smooth < 0.6 * rough
    assert not (tmp_path / "r_State.safetensors").exists()


def test_previews_are_a_series_an_animation_fields_and_a_table(images, tmp_path):
    done = registered(images, tmp_path, steps=10, previews=4, smoothness=0.1)
    with (tmp_path / "r_PreviewScores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["4", "8", "10"]
    assert rows[0]["change"] == "" and float(rows[1]["change"]) > 0
    assert float(rows[-1]["smoothness"]) > 0 and float(rows[-1]["sd_jacobian"]) > 0
    series = np.asarray(nib.load(tmp_path / "r_Previews.nii.gz").dataobj)
    warped = np.asarray(nib.load(tmp_path / "r_Warped.nii.gz").dataobj)
    assert series.shape == (64, 64, 1, 3) and (tmp_path / "r_Previews.gif").stat().st_size > 0
    assert np.allclose(series[..., 0, 2], warped.squeeze(), atol=1)  # Warped holds whole numbers
    last, _ = read_field(tmp_path / "r_Previews03Warp.nii.gz")
    assert np.allclose(last, done.field, atol=1e-5)
    names = {"Previews.nii.gz", "Previews.gif", "PreviewScores.csv", "Previews01Warp.nii.gz"}
    assert names <= set(done.record["outputs"])


def test_an_automatic_stop_ends_early_and_keeps_the_best_preview(images, tmp_path):
    done = registered(images, tmp_path, steps=50, stop="auto", patience=2)
    (one,) = done.record["sampling"]["samples"]
    assert one["reason"] in ("similarity", "change") and one["steps"] < 50
    assert done.record["stopped_at"] == one["stopped_at"] < 1500
    assert done.record["warnings"] == []


def test_a_resumed_sampling_writes_what_the_uninterrupted_one_does(images, tmp_path):
    settings = {"steps": 12, "eta": 0.7, "clamp": 5.0, "seed": 4}
    whole = registered(images, **settings)
    early = registered(images, tmp_path, **settings, stop_at=900)
    assert early.record["stopped_at"] == 727
    assert early.record["sampling"]["samples"][0]["reason"] == "level"
    assert not np.array_equal(early.field, whole.field)
    state = str(tmp_path / "r_State.safetensors")
    rest = registered(images, resume=state)  # neither its options nor its seed are repeated
    assert np.array_equal(rest.field, whole.field)
    assert rest.record["sampling"]["seed"] == 4 and rest.record["sampling"]["steps"] == 12
    with pytest.raises(UsageError, match=r"option 'eta': .* was begun with 0\.7; leave it out"):
        registered(images, resume=state, eta=0.1)
    with pytest.raises(UsageError, match="goes on with one sample"):
        registered(images, resume=state, samples=2)
    swapped = {"fixed": images["moving"], "moving": images["fixed"]}
    assert "another pair" in registered(swapped, resume=state).record["warnings"][0]
    small = {k: v.with_array(v.array) for k, v in images.items()}
    grid = Grid((60, 60), *(getattr(small["fixed"].grid, n) for n in
                            ("spacing", "direction", "origin")))  # fmt: skip
    small = {k: Volume(v.array[:60, :60], grid) for k, v in small.items()}
    with pytest.raises(InputError, match=r"a state of shape \(1, 2, 64, 64\)"):
        registered(small, resume=state)


def test_files_that_are_no_state_are_refused(images, tmp_path):
    text, bare = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    text.write_text("nothing", "utf-8")
    from safetensors.torch import save_file

    save_file({"state": torch.zeros(1)}, bare)
    for path in (text, bare, tmp_path / "absent"):
        with pytest.raises(InputError, match="not a state to go on from"):
            read_state(path)
    save_file({"state": torch.zeros(1)}, bare, metadata={"facts": json.dumps({"schema": 1})})
    with pytest.raises(InputError, match="not a state of a sampling"):
        registered(images, resume=str(bare))


def test_a_wish_to_stop_writes_the_best_so_far(images, tmp_path):
    asking = Asking(3)
    done = registered(images, tmp_path, steps=10, asking=asking)
    assert done.record["stopped_at"] == 1555
    (sentence,) = done.record["warnings"]
    assert sentence.startswith("stopped by request at level 1555 of 2000; the best preview is at")
    assert (tmp_path / "r_State.safetensors").exists() and (tmp_path / "r_regtool.json").exists()
    assert asking.at == 10**9, "nobody listens any more once the method is done"
    rest = registered(images, resume=str(tmp_path / "r_State.safetensors"))
    assert np.array_equal(rest.field, registered(images, steps=10).field)


def test_samples_that_were_complete_before_a_stop_are_the_answer(images):
    done = registered(images, steps=5, samples=9, asking=Asking(12))
    assert done.record["warnings"] == ["stopped by request after 2 of 9 samples"]
    assert "stopped_at" not in done.record
    assert np.array_equal(done.field, registered(images, steps=5, samples=2).field)


def test_a_warm_start_begins_with_a_registration_that_was_written(images, tmp_path):
    first = registered(images, tmp_path)
    moved = first.field + np.asarray([6.0, 0.0], dtype=np.float32)
    write_field(tmp_path / "r_1Warp.nii.gz", moved, images["fixed"].grid)
    record = str(tmp_path / "r_regtool.json")
    with pytest.raises(InputError, match="has changed since"):
        registered(images, warm=record)
    content = read_record(record)
    content["outputs"]["1Warp.nii.gz"]["sha256"] = sha256(tmp_path / "r_1Warp.nii.gz")
    (tmp_path / "r_regtool.json").write_text(json.dumps(content))
    near, far = (
        registered(images, warm=record, warm_level=level, steps=100, spread=0.6)
        for level in (40, 1900)
    )
    means = [float((r.field - first.field).mean(axis=(0, 1))[0]) for r in (near, far)]
    assert means[0] > 5 > 1 > means[1]
    assert near.record["sampling"]["steps"] == 2
    with pytest.raises(UsageError, match="levels end at 1999"):
        registered(images, warm=record, warm_level=2000)
    with pytest.raises(InputError, match="no such file"):
        registered(images, warm=str(tmp_path / "absent.json"))


def test_a_direction_is_the_worlds_whatever_the_axes(images):
    """The grid is turned by 0.4 and its voxels are not square."""
    inside = images["fixed_labels"].array == 2
    for wish in ((1.0, 0.0), (0.6, -0.8)):
        found = []
        for scale in (0.0, 30.0):
            done = registered(images, direction=wish, direction_in=2, direction_scale=scale,
                              guide_clip=10.0, spread=0.6, seed=1,
                              fixed_labels=images["fixed_labels"])  # fmt: skip
            u = done.field[inside]
            found.append(float((u @ wish / np.linalg.norm(u, axis=1)).mean()))
        assert found[1] > 0.95 > found[0] + 0.5


def test_an_organ_is_given_by_labels_of_both_images_or_a_mask(images):
    found = []
    for scale in (0.0, 100.0):
        done = registered(images, organ=2, organ_scale=scale, spread=0.6, **labelled(images))
        found.append(done.record["dice"]["after"]["labels"]["2"])
    assert found[1] > found[0] + 0.02
    mask = images["fixed_labels"].with_array((images["fixed_labels"].array == 2).astype(np.uint8))
    plain = registered(images, spread=0.6)
    masked = registered(images, organ="mask", organ_scale=30.0, spread=0.6, fixed_mask=mask)
    assert masked.record["warnings"] == [] and not np.array_equal(plain.field, masked.field)
    assert registered(images, fixed_mask=mask).record["warnings"] == [
        "the mask is not used; it serves --set direction_in=mask and --set organ=mask"
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"organ": 2}, "option 'organ': give the labels, --fixed-labels"),
        ({"organ": "mask"}, "option 'organ': give the mask, --fixed-mask"),
        ({"direction": (1.0, 0.0), "direction_in": 1}, "option 'direction_in': give the labels"),
        ({"direction": (1.0, 0.0, 0.0)}, "option 'direction': 3 components"),
        ({"direction": (0.0, 0.0)}, "has no length in the image's plane"),
        ({"stop_at": 1999}, "option 'stop_at': 1999 is not below 1999"),
        ({"stop_at": 5000}, "option 'stop_at': 5000; this method's levels end at 1999"),
        ({"samples": 0}, "option 'samples'"),
        ({"organ": "heart"}, "option 'organ'"),
    ],
)
def test_options_that_do_not_fit_are_refused(images, given, message):
    with pytest.raises(UsageError, match=message):
        registered(images, **given)


def test_a_label_that_is_not_there_is_refused(images):
    with pytest.raises(UsageError, match="label 9 is not in the fixed labels"):
        registered(images, organ=9, **labelled(images))
    with pytest.raises(UsageError, match="option 'direction_in': label 9"):
        registered(images, direction=(1.0, 0.0), direction_in=9, **labelled(images))


def test_slices_are_sampled_together_and_watched_as_one(images, tmp_path, monkeypatch):
    grid = Grid((40, 36, 3), (2.0, 2.0, 8.0), tuple(np.eye(3).ravel()), (0.0, 0.0, 0.0))
    volumes = {
        name: Volume(np.stack([images[name].array[10:46, 8 + k : 48 + k] for k in range(3)]), grid)
        for name in ("fixed", "moving")
    }
    done = registered(volumes, tmp_path, slices="z", previews=5, samples=2)
    series = np.asarray(nib.load(tmp_path / "r_Previews.nii.gz").dataobj)
    assert series.shape == (40, 36, 3, 2)
    apart = np.asarray(nib.load(tmp_path / "r_Deviation.nii.gz").dataobj)
    assert apart.shape == (40, 36, 3) and (apart > 0).all()
    assert done.record["sampling"]["samples"][0]["steps"] == 10
    monkeypatch.setattr("regtool.engine.registrar.SLICES_AT_ONCE", 2)
    with pytest.raises(Interrupted, match="before all slices had their turn"):
        registered(volumes, slices="z", asking=Asking(3))
    assert registered(volumes, slices="z", asking=Asking(14)).record["stopped_at"] > 0


def test_a_record_names_the_field_of_a_warm_start_by_its_absolute_path(
    images, tmp_path, monkeypatch
):
    registered(images, tmp_path, steps=4)
    monkeypatch.chdir(tmp_path)
    warm = registered(images, warm="r_regtool.json", warm_level=800, steps=4)
    assert warm.record["request"]["settings"]["warm"] == f"{tmp_path}/r_regtool.json"
    assert warm.record["options"]["warm"] == f"{tmp_path}/r_regtool.json"


def test_a_script_sees_previews_and_may_end_the_sampling(images):
    seen = []

    def preview(step: int, prediction: Prediction) -> bool:
        seen.append((step, tuple(prediction.displacement.shape)))
        return step < 6

    found = regtool.register(
        images["fixed"], images["moving"], "sampled", preview=preview,
        settings={"steps": 12, "previews": 3},
    )  # fmt: skip
    assert seen == [(3, (1, 2, 64, 64)), (6, (1, 2, 64, 64))]
    assert found.record["stopped_at"] > 0
    assert found.record["sampling"]["samples"][0]["reason"] == "requested"


def test_previews_reach_whoever_watches_and_may_end_the_sampling():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 24, 24)
    pair = Pair(Sample(image, (1.0, 1.0)), Sample(image, (1.0, 1.0)))
    shown, seen = [], []

    def preview(step: int, prediction: Prediction) -> bool:
        seen.append((step, tuple(prediction.displacement.shape)))
        return step < 6

    context = Context(torch.Generator().manual_seed(0), torch.device("cpu"), preview,
                      show=lambda numbers: shown.append(dict(numbers)))  # fmt: skip
    options = sampled_method.SampledOptions(previews=3, steps=12)
    answer = sampled_method.Sampled()(pair, options, context)
    assert seen == [(3, (1, 2, 24, 24)), (6, (1, 2, 24, 24))]
    assert [numbers["step"] for numbers in shown] == [3.0, 6.0]
    assert answer.notes["sampling"]["samples"][0]["reason"] == "requested"
    with pytest.raises(UsageError, match="option 'direction'"):  # a pair of no known world
        options = sampled_method.SampledOptions(direction=(1.0, 0.0))
        sampled_method.Sampled()(pair, options, context)


def test_notes_may_not_replace_what_the_record_says(images, monkeypatch):
    plain = sampled_method.Sampled.forward

    def noted(*given: Any) -> Prediction:
        answer = plain(*given)
        answer.notes["seed"] = 7
        return answer

    monkeypatch.setattr(sampled_method.Sampled, "forward", noted)
    with pytest.raises(PluginError, match="its note 'seed' has the name of an entry"):
        registered(images)
