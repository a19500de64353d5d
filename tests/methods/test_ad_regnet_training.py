"""Training AD-RegNet: the loss by its formula, folds of landmarks, patches, resumed runs."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_cases import weights, whole_and_resumed

from regtool.api import Context, Pair, Sample, UsageError
from regtool.api.losses import fold_penalty, local_ncc, mind_ssc, mse, ssim_loss
from regtool.data.readers import open_data
from regtool.engine.training.run import TrainRequest, train
from regtool.spatial.compose import compose
from regtool.spatial.warp import warp
from regtool_ad_regnet.loss import ADRegNetLoss, displacement_of, levels_distance
from regtool_ad_regnet.network import ADRegNet, Fields
from regtool_ad_regnet.presets import AD_REGNET
from regtool_ad_regnet.recipe import recipe

SHAPE = (10, 12, 14)
NONE = {"ncc": 0.0, "ssim": 0.0, "local_ncc": 0.0, "mse": 0.0, "mind": 0.0}
PAPER: dict[str, Any] = dict(AD_REGNET["paper"]["training"])


class Toy(nn.Module):
    """A network of AD-RegNet's form that answers one field, whatever it sees."""

    def __init__(self, field: Tensor) -> None:
        super().__init__()
        self.field, self.seen = nn.Parameter(field), []

    def network(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Any:
        self.seen.append((fixed, moving, mask))
        return Fields(self.field, (), ())


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def a_pair() -> Pair:
    points = [drawn(1, 6, 3, seed=k) * 9 for k in (5, 6)]
    fixed, moving = (
        Sample(drawn(1, 1, *SHAPE, seed=k), (3.0, 1.0, 1.5), points=points[k]) for k in (0, 1)
    )
    return Pair(fixed, moving, drawn(1, 3, *SHAPE, seed=7))


def a_field() -> Tensor:
    return 1.5 * (drawn(1, 3, *SHAPE, seed=2) - 0.5)


def terms(pair: Pair, field: Tensor, **changes: Any) -> dict[str, float]:
    context = Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)
    output = ADRegNetLoss({**PAPER, **changes})(Toy(field), pair, context)
    return {name: float(value.detach()) for name, value in output.terms.items()}


def test_the_paper_is_ncc_ssim_smoothness_and_jacobian():
    """METHODS 7.3 with the inner weights of AD-4, each part from NumPy or its own function."""
    pair, u = a_pair(), a_field()
    warped = warp(pair.moving.image, u)
    f, w = pair.fixed.image, warped
    r = np.corrcoef(f.numpy().ravel(), w.numpy().ravel())[0, 1]
    found = terms(pair, u)
    assert set(found) == {"similarity", "smoothness", "jacobian"}
    assert found["similarity"] == pytest.approx(1 - r + float(ssim_loss(f, w, 7)), rel=1e-4)
    steps = [np.diff(u.numpy(), axis=a) ** 2 for a in (2, 3, 4)]
    rough = np.mean([s.mean() for s in steps])
    assert found["smoothness"] == pytest.approx(0.1 * rough, rel=1e-4)
    assert found["jacobian"] == pytest.approx(0.1 * float(fold_penalty(u)), rel=1e-4)
    assert found["jacobian"] > 0


def test_every_weight_scales_its_part():
    pair, u = a_pair(), a_field()
    f, w = pair.fixed.image, warp(pair.moving.image, u)
    parts = {
        "local_ncc": local_ncc(f, w, 5),
        "mse": mse(f, w),
        "mind": mse(mind_ssc(f), mind_ssc(w)),
    }
    for name, value in parts.items():
        found = terms(pair, u, similarity={**NONE, name: 3.0}, ncc_window=5, lambda_similarity=2.0)
        assert found["similarity"] == pytest.approx(6 * float(value), rel=1e-4)
    assert "similarity" not in terms(pair, u, similarity=NONE)
    doubled = terms(pair, u, lambda_regularity=0.2, smoothness=3.0, jacobian=0.0)
    assert doubled["smoothness"] == pytest.approx(6 * terms(pair, u)["smoothness"], rel=1e-4)
    assert "jacobian" not in doubled
    in_mm = np.mean([
        ((np.diff(u.numpy(), axis=2 + a) * np.reshape([3, 1, 1.5], (1, 3, 1, 1, 1))
          / (3.0, 1.0, 1.5)[a]) ** 2).mean()
        for a in range(3)
    ])  # fmt: skip
    assert terms(pair, u, units="mm")["smoothness"] == pytest.approx(0.1 * in_mm, rel=1e-4)
    apart = (u - pair.field).square().sum(1).add(0.01).sqrt().mean()
    assert terms(pair, u, known_field=0.5)["known_field"] == pytest.approx(0.5 * float(apart))


def test_landmarks_count_in_folds_only():
    pair = a_pair()
    assert pair.fixed.points is not None and pair.moving.points is not None
    u = torch.zeros(1, 3, *SHAPE)
    u[:, 1] = 2.0
    mm = torch.tensor([3.0, 1.0, 1.5])
    apart = (pair.fixed.points + torch.tensor([0.0, 2.0, 0.0]) - pair.moving.points) * mm
    expected = float(apart.norm(dim=-1).mean())
    assert "landmarks" not in terms(pair, u)
    with_folds = terms(pair, u, landmark_folds=5, lambda_landmarks=0.5)
    assert with_folds["landmarks"] == pytest.approx(0.5 * expected, rel=1e-5)
    bare = Pair(replace(pair.fixed, points=None), pair.moving)
    assert "landmarks" not in terms(bare, u, landmark_folds=5)


def test_similarity_is_of_the_images_before_their_contrast_was_invented():
    pair, u = a_pair(), a_field()
    other = Pair(
        replace(pair.fixed, image=1 - pair.fixed.image, original=pair.fixed.image),
        replace(pair.moving, image=pair.moving.image.sqrt(), original=pair.moving.image),
    )
    assert terms(other, u) == terms(pair, u)
    toy = Toy(u)
    displacement_of(toy, other)
    assert torch.equal(toy.seen[0][0], other.fixed.image)  # the network sees the new contrast
    assert torch.equal(toy.seen[0][1], other.moving.image)


def test_a_second_look_counts_the_whole_way():
    """The second pass sees the warped image; similarity and landmarks are of both together."""
    pair, u = a_pair(), a_field()
    toy = Toy(u)
    context = Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)
    output = ADRegNetLoss({**PAPER, "second_look": 1.0})(toy, pair, context)
    assert len(toy.seen) == 2
    assert torch.allclose(toy.seen[1][1], warp(pair.moving.image, u))
    assert output.prediction is not None and output.prediction.displacement is not None
    torch.testing.assert_close(output.prediction.displacement, compose(u, u))
    once = terms(pair, compose(u, u))
    assert float(output.terms["similarity"].detach()) == pytest.approx(once["similarity"], rel=1e-5)
    alone = terms(pair, u)["smoothness"]  # of what the network puts out
    assert float(output.terms["smoothness"].detach()) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"similarity": {"psnr": 1.0}}, "similarity 'psnr'"), ({"units": "inch"}, "units 'inch'")],
)
def test_settings_that_are_none(changes, message):
    with pytest.raises(UsageError, match=message):
        ADRegNetLoss({**PAPER, **changes})


def test_presets_and_their_recipes():
    """The paper's rate, its halving and its patience; fields only where they are weighted."""
    (paper,) = recipe(AD_REGNET["paper"])
    (adam,) = paper.optimisers
    assert (adam.kind, adam.lr, adam.clip_norm, paper.ema, paper.batch) == (
        "Adam", 1e-4, None, None, 1,
    )  # fmt: skip
    assert (adam.schedule.kind, adam.schedule.gamma) == ("step", 0.5)
    epochs = [round(m * 200) for m in adam.schedule.milestones]
    assert epochs == list(range(20, 200, 20))
    assert (PAPER["patience"], paper.steps // PAPER["val_every"]) == (20, 200)
    assert paper.needs == ()
    assert recipe(AD_REGNET["brain"])[0].needs == ("fields",)


def test_it_overfits_one_pair():
    """A blob 2 voxels away: the field of a small network learns the way."""
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.arange(12.0)] * 3, indexing="ij")

    def blob(x: float) -> Sample:
        centre = (6.0, 5.0, x)
        square = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        return Sample(torch.exp(-square / 10)[None, None], (1.0, 1.0, 1.0))

    pair = Pair(blob(5.0), blob(7.0))
    module = nn.Module()
    module.network = ADRegNet((4, 8), heads=2, gate=4, patch=4, window=4, cap=64, compare=4)
    loss = ADRegNetLoss({**PAPER, "similarity": {**NONE, "mse": 10.0, "ncc": 1.0}})
    context = Context(torch.Generator().manual_seed(0), torch.device("cpu"), training=True)
    adam = torch.optim.Adam(module.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        output = loss(module, pair, context)
        total = torch.stack(list(output.terms.values())).sum()
        adam.zero_grad()
        total.backward()
        adam.step()
        values.append(float(total.detach()))
    assert values[-1] < 0.1 * values[0]
    u = displacement_of(module, pair)
    assert float(u[0, 2, 6, 5, 5].detach()) == pytest.approx(2.0, abs=0.3)


# -- whole runs ---------------------------------------------------------------------------------

SMALL = (
    "network.widths=(4, 4)", "network.gate=4", "network.cap=64", "network.window=2",
    "preparation.spacing=(20.0, 20.0, 20.0)", "preparation.size=(16, 16, 16)", "steps=4",
    "checkpoint_every=2", "val_every=2", "log_every=1",
)  # fmt: skip


def request(folder: Path, data: str, *words: str) -> TrainRequest:
    return TrainRequest(
        output=folder, method="ad-regnet", preset="trial", data=[data],
        assignments=[*SMALL, *words], threads=1,
    )  # fmt: skip


def test_a_stopped_run_continues_bit_for_bit(tmp_path, monkeypatch):
    """With everything that draws: patches, contrasts, turns, second looks; and known fields."""
    words = (
        "patch=(8, 12, 16)", "second_look=0.5", "ema=0.5",
        "augment={'flip': ['x'], 'rotation': 10, 'synthesis': 0.5, 'transfer': 0.5, 'bias': 0.2}",
    )  # fmt: skip
    data = "breathing:phantom?n=3&spacing=20&landmarks=20"
    whole, resumed = whole_and_resumed(
        lambda folder: request(folder, data, *words), tmp_path, monkeypatch, 4
    )
    assert whole == resumed


def table_of(folder: Path) -> Path:
    """Three breathing pairs, one a subject, as a table of pairs with landmarks alone."""
    folder.mkdir()
    cases = open_data("breathing:phantom?n=3&spacing=20&landmarks=20")
    rows = []
    for case in cases:
        row = {"name": case.name, "subject": case.subject, "split": "train"}
        for side, own in (("fixed", case.fixed), ("moving", case.moving)):
            assert own.points is not None
            row[side] = str(own.image)
            copy = folder / f"{case.name}_{side}.csv"
            copy.write_bytes(own.points.read_bytes())
            row[f"{side}_points"] = copy.name
        rows.append(row)
    table = folder / "pairs.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def spoil(points: Path) -> None:
    """Move every landmark by 30 mm along x."""
    with points.open(newline="") as stream:
        rows = list(csv.reader(stream))
    for row in rows[1:]:
        row[0] = str(float(row[0]) + 30)
    with points.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def test_landmarks_that_are_held_out_change_nothing_in_training(tmp_path):
    """Other landmarks of the held-out pair: the same weights and the same choice of them."""
    table = table_of(tmp_path / "data")
    words = (
        "landmark_folds=3", "landmark_fold=2", "lambda_landmarks=0.1", "known_field=0.0",
        "fields=none", "select=none",
    )  # fmt: skip

    def run(name: str) -> tuple[bytes, dict[str, Any]]:
        train(request(tmp_path / name, str(table), *words))
        (config,) = (tmp_path / name).glob("weights/*/config.json")
        return weights(tmp_path / name), json.loads(config.read_text())["training"]

    first, facts = run("first")
    (held,) = facts["landmarks"]["held_out"]
    assert (facts["landmarks"]["folds"], facts["landmarks"]["fold"]) == (3, 2)
    assert (facts["train_pairs"], facts["val_pairs"]) == (2, 1)
    assert (tmp_path / "first" / "weights" / "ad-regnet-trial-sup-fold2of3").is_dir()
    spoil(table.parent / f"{held}_moving.csv")
    again, other = run("again")
    assert again == first
    assert other["best_step"] == facts["best_step"]
    assert abs(other["validation"]["tre"] - facts["validation"]["tre"]) > 1
    assert other["validation"]["loss"] == facts["validation"]["loss"]
    names = {p.name.removesuffix("_moving.csv") for p in table.parent.glob("*_moving.csv")}
    for name in names - {held}:
        spoil(table.parent / f"{name}_moving.csv")
    assert run("trained")[0] != first


def test_without_folds_no_landmark_reaches_a_loss(tmp_path):
    table = table_of(tmp_path / "data")
    words = ("steps=2", "known_field=0.0", "fields=none", "select=none")
    train(request(tmp_path / "first", str(table), *words))
    for points in table.parent.glob("*_moving.csv"):
        spoil(points)
    train(request(tmp_path / "second", str(table), *words))
    assert weights(tmp_path / "first") == weights(tmp_path / "second")


def test_known_levels_by_hand():
    """A field of 3 voxels along x: level voxels of 4 and 2 image voxels, over an image of 6."""
    field = torch.zeros(1, 3, 6, 6, 6)
    field[:, 2] = 3.0
    levels = [torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 3, 4, 4, 4)]
    levels[0][:, 2] = 0.75  # 3 voxels of the image
    levels[1][:, 2] = 0.5  # 1 voxel of the image: 2 are missing
    found = levels_distance(levels, (4, 2), field)
    assert float(found) == pytest.approx(0.1 + math.sqrt(4 + 0.01), abs=1e-5)


def test_regions_gate():
    """The regional map, the largest value of which is 1, holds levels back unless that is off."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"heads": 2, "gate": 4, "patch": 4, "window": 2, "cap": 8}
    bound = ADRegNet((4, 8), **sizes).eval()
    free = ADRegNet((4, 8), **sizes, regions_gate=False).eval()
    free.load_state_dict(bound.state_dict())
    f, m = torch.rand(2, 1, 1, 8, 8, 8)
    with torch.no_grad():
        held, own = (network(f, m).answers[1] for network in (bound, free))
    torch.testing.assert_close(held.weight, own.weight * own.importance)
    assert held.importance.min() < 1 == own.importance.max()
