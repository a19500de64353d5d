"""Folds of subjects with landmarks, and how landmarks are measured in validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regtool.data.cases import Case, PairCase, Split
from regtool.engine.training.card import card
from regtool.engine.training.folds import fold_of, hold_out
from regtool.engine.training.settings import LoopSettings
from regtool.engine.training.store import PairStore
from regtool.engine.training.validate import (
    as_prepared,
    average,
    in_words,
    loss_of_pair,
    score,
    validate_pair,
)
from regtool.errors import UsageError
from regtool.plugins.exchange import Context, Pair, Prediction, Sample
from regtool.prepare.preparation import Preparation


def folded(**changes: Any) -> LoopSettings:
    return LoopSettings(**{"landmark_folds": 3, "landmark_fold": 2, **changes})


def case(subject: str, number: int = 0, split: Split = "train", points: bool = True) -> PairCase:
    image = Case(Path("i.nii"), points=Path("p.csv") if points else None)
    return PairCase(f"{subject}_{number}", image, image, split, subject)


def names(cases: list[PairCase]) -> set[str]:
    return {c.subject for c in cases}


def test_without_folds_nothing_changes() -> None:
    splits = ([case("a")], [case("b", split="val")])
    assert hold_out(splits, LoopSettings()) is splits


def test_every_subject_is_held_out_once() -> None:
    train = [case(f"s{k}", n) for k in range(7) for n in range(2)]
    val = [case("v", split="val")]
    held = []
    for fold in (1, 2, 3):
        now, later = hold_out((train, val), folded(landmark_fold=fold))
        assert len(now) + len(later) == len(train) + len(val)
        assert not names(now) & names(later)
        held += sorted(names(later))
    assert sorted(held) == sorted([*(f"s{k}" for k in range(7)), "v"])


def test_folds_are_even_and_depend_on_names_alone() -> None:
    subjects = [f"s{k}" for k in range(11)]
    fold = fold_of(subjects, 4)
    sizes = [list(fold.values()).count(k) for k in (1, 2, 3, 4)]
    assert sorted(sizes) == [2, 3, 3, 3]
    assert fold_of(subjects[::-1] * 2, 4) == fold


def test_subjects_without_landmarks_stay_where_they_were() -> None:
    bare = [case("x", points=False)], [case("y", split="val", points=False)]
    train = [*(case(f"s{k}") for k in range(3)), *bare[0]]
    now, later = hold_out((train, bare[1]), folded())
    assert "x" in names(now) and "y" in names(later)
    assert len(names(later)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"landmark_folds": 1, "landmark_fold": 1}, "at least 2 folds"),
        ({"landmark_fold": 4}, "held out"),
        ({"landmark_folds": 9, "landmark_fold": 1}, "3 subjects have landmarks"),
        ({"select": "tre"}, "leave out select=tre"),
    ],
)
def test_folds_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hold_out(([case(f"s{k}") for k in range(3)], []), folded(**changes))


# -- validation ---------------------------------------------------------------------------------

CPU = torch.device("cpu")


def shifted_store() -> PairStore:
    """Landmarks 3 pixels of 2 mm away along x; one lies outside of the grid."""
    points = torch.tensor([[[2.0, 2.0], [4.0, 5.0], [4.0, 99.0]]])
    there = points + torch.tensor([0.0, 3.0])
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    store = PairStore()
    spacing = (1.0, 2.0)
    store.add(
        "a", Pair(Sample(image, spacing, points=points), Sample(image, spacing, points=there))
    )
    return store


def moved_by(pixels: float) -> Prediction:
    u = torch.zeros(1, 2, 8, 8)
    u[:, 1] = pixels
    return Prediction(displacement=u)


def context() -> Context:
    return Context(torch.Generator(), CPU)


def test_the_distance_of_landmarks_is_measured_in_mm() -> None:
    store = shifted_store()
    for pixels, distance in ((0.0, 6.0), (3.0, 0.0), (4.0, 2.0)):
        found = validate_pair(store, [0], 1, context(), lambda p, c, k=pixels: moved_by(k))
        assert found["tre"] == pytest.approx(distance, abs=1e-5)
    assert next(iter(average([found]))) == "tre"
    assert "TRE 2.000 mm" in in_words(found)


def test_the_loss_of_a_validation_pair_sees_no_landmarks() -> None:
    def loss(pair: Pair, context: Context) -> float:
        assert pair.fixed.points is None and pair.moving.points is None
        return 1.5

    assert loss_of_pair(shifted_store(), [0], 1, context(), loss) == {"loss": 1.5}


def test_what_picks_the_best_weights() -> None:
    figures = {"dice": 0.8, "loss": 0.3, "tre": 2.0}
    assert score(figures) == 0.8
    assert score({"loss": 0.3}) == -0.3
    assert score(figures, "tre") == -2.0
    assert score(figures, "loss") == -0.3


def test_volumes_that_are_registered_in_tiles_are_validated_so() -> None:
    """Each tile's answer is its own mean; whole images would give one number everywhere."""
    image = torch.zeros(1, 1, 4, 12)
    image[..., 6:] = 1
    pair = Pair(Sample(image, (1.0, 1.0)), Sample(image, (1.0, 1.0)))
    sizes: list[tuple[int, ...]] = []

    def register(part: Pair, context: Context) -> Prediction:
        sizes.append(tuple(part.fixed.image.shape[2:]))
        mean: Tensor = part.fixed.image.mean()
        return Prediction(displacement=mean.expand(1, 2, *sizes[-1]))

    def prepared(**changes: Any) -> Preparation:
        return Preparation(spacing=(1.0, 1.0), size=(4, 6), overlap=0.0, **changes)

    assert as_prepared(register, prepared()) is register
    u = as_prepared(register, prepared(outside="tiles"))(pair, context()).displacement
    assert sizes == [(4, 6), (4, 6)]
    assert u is not None and u[0, 0, 0].tolist() == pytest.approx([0.0] * 6 + [1.0] * 6)


# -- what is said about it ----------------------------------------------------------------------


def test_the_card_says_which_landmarks_trained() -> None:
    training = {
        "data": ["dirlab"], "train_pairs": 4, "train_items": 4, "val_pairs": 1, "label_loss": 0,
        "init_weights": None, "steps_done": 1, "steps": 1, "batch": 1, "lr": 1e-4, "seconds": 1,
        "device": "CPU", "precision": "fp32", "seed": 0, "regtool": "1", "torch": "2",
        "best_step": 1, "validation": {"tre": 1.25}, "synthesis": 0.4,
        "landmarks": {"folds": 5, "fold": 2, "held_out": ["case3"]},
    }  # fmt: skip
    config = {
        "name": "w", "method": "m", "preset": "p", "ndim": 3, "licence": "MIT", "anatomy": "lung",
        "modality": "CT", "training": training,
    }  # fmt: skip
    text = card(config, "float16")
    assert "all but those of fold 2 of 5" in text and "case3" in text
    assert "distance of landmarks, mm | 1.2500" in text
    assert "probability 0.4" in text
