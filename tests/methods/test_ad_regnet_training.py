"""Training AD-RegNet: presets, one pair, folds of landmarks, resumed runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ad_regnet_loss_cases import NONE, PAPER
from torch import nn
from training_cases import weights, whole_and_resumed

from regtool.api import Context, Pair, Sample
from regtool.data.readers import open_data
from regtool.engine.training.run import TrainRequest, train
from regtool_ad_regnet.loss import ADRegNetLoss, displacement_of
from regtool_ad_regnet.network import ADRegNet
from regtool_ad_regnet.presets import AD_REGNET
from regtool_ad_regnet.recipe import recipe


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
