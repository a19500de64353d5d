"""Figures of a validation."""

from __future__ import annotations

import pytest
import torch
import training_toy
from torch import Tensor

from regtool.engine.training.store import PairStore
from regtool.engine.training.validate import (
    average,
    displacement_of,
    in_words,
    score,
    validate_pair,
)
from regtool.metrics.dice import dice
from regtool.plugins.exchange import Context, Pair, Prediction
from regtool.spatial.warp import warp_labels


def _context() -> Context:
    return Context(torch.Generator(), torch.device("cpu"))


def _shift(pair: Pair) -> Tensor:
    u = torch.zeros(pair.fixed.image.shape[0], 2, *training_toy.SHAPE)
    u[:, 1] = 1.0
    return u


def test_dice_is_that_of_the_whole_volume() -> None:
    pair = training_toy.sample_pair(batch=5)
    assert pair.fixed.labels is not None and pair.moving.labels is not None
    pair.fixed.labels[2:] *= 2  # a label that only some slices have
    pair.moving.labels[2:] *= 2
    store = PairStore()
    store.add("a", pair)

    def register(batch: Pair, context: Context) -> Prediction:
        return Prediction(displacement=_shift(batch))

    figures = validate_pair(store, store.of_pair(0), 2, _context(), register)
    by_label = dice(pair.fixed.labels, warp_labels(pair.moving.labels, _shift(pair)))
    assert figures["dice_1"] == pytest.approx(by_label[1])
    assert figures["dice_2"] == pytest.approx(by_label[2])
    assert figures["dice"] == pytest.approx(sum(by_label.values()) / 2)
    assert figures["folds"] == 0


def test_identical_images_correlate() -> None:
    pair = training_toy.sample_pair()
    store = PairStore()
    store.add("a", Pair(pair.fixed, pair.fixed))
    still = Prediction(displacement=torch.zeros(1, 2, *training_toy.SHAPE))
    figures = validate_pair(store, [0], 1, _context(), lambda p, c: still)
    assert figures["ncc"] == pytest.approx(1) and figures["dice"] == 1


def test_folds_are_counted() -> None:
    pair = training_toy.sample_pair()
    store = PairStore()
    store.add("a", pair)
    x = torch.arange(24.0)
    u = torch.stack([torch.zeros(24, 24), (-2 * x).expand(24, 24)])[None]  # mirrors the x axis
    figures = validate_pair(store, [0], 1, _context(), lambda p, c: Prediction(displacement=u))
    assert figures["folds"] == 100


def test_velocity_is_integrated_and_an_affine_applied_after() -> None:
    velocity = torch.ones(1, 2, 8, 8)
    torch.testing.assert_close(displacement_of(Prediction(velocity=velocity)), velocity)
    matrix = torch.eye(3)[None].clone()
    matrix[0, 0, 2] = 3.0
    whole = displacement_of(Prediction(displacement=velocity, affine=matrix))
    torch.testing.assert_close(whole[:, 0], torch.full((1, 8, 8), 4.0))
    with pytest.raises(ValueError, match="neither"):
        displacement_of(Prediction())


def test_average_skips_what_a_pair_lacks() -> None:
    found = average([{"folds": 0.0, "dice": 0.5, "dice_10": 1.0}, {"folds": 2.0, "dice_2": 0.25}])
    assert found == {"dice": 0.5, "folds": 1.0, "dice_2": 0.25, "dice_10": 1.0}
    assert list(found) == ["dice", "folds", "dice_2", "dice_10"]


def test_score() -> None:
    assert score({"dice": 0.7, "loss": 3.0}) == 0.7
    assert score({"loss": 3.0, "ncc": 1.0}) == -3.0
    assert in_words({"dice": 0.7, "folds": 0.1}) == "dice 0.7000, folds 0.100 %"
