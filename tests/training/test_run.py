"""Whole training runs of the toy method, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toy
from conftest import Rows
from safetensors.torch import load_file

from regtool.engine.training import TrainResult
from regtool.engine.training.checkpoint import load_checkpoint
from regtool.errors import (
    UsageError,
    WeightsError,
)
from regtool.weights import resolve

Run = Callable[..., TrainResult]
Read = Callable[[Path], Rows]


def test_run_folder(run: Run, rows: Read) -> None:
    result = run()
    folder = result.folder
    assert result.ending == "finished" and result.step == 12
    assert result.weights == folder / "weights" / "toy-tiny"
    assert sorted(p.name for p in result.weights.iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert sorted(p.name for p in folder.iterdir()) == [
        ".lock", "cache", "checkpoint.safetensors", "log.csv", "settings.json", "stages",
        "tensorboard", "weights",
    ]  # fmt: skip
    assert list((folder / "tensorboard").glob("events.*"))
    log = rows(folder)
    assert [r["step"] for r in log if r["kind"] == "train"] == [str(n) for n in range(1, 13)]
    assert [r["step"] for r in log if r["kind"] == "val"] == ["4", "8", "12"]
    assert [float(r["lr"]) for r in log if r["kind"] == "train"][:3] == pytest.approx(
        [1e-2 / 3, 2e-2 / 3, 1e-2]
    )


def test_best_validation_is_what_is_kept(run: Run, rows: Read) -> None:
    result = run(steps=40, lr=0.1, assignments=["val_every=2"])
    scores = {int(r["step"]): float(r["dice"]) for r in rows(result.folder) if r["kind"] == "val"}
    assert result.best == max(scores.values())
    assert scores[result.best_step] == result.best
    config = json.loads((result.folder / "weights/toy-tiny/config.json").read_text())
    assert config["training"]["best_step"] == result.best_step
    assert config["training"]["steps_done"] == 40
    assert config["training"]["validation"]["dice"] == pytest.approx(result.best, abs=1e-5)


def test_exported_weights_load_and_say_where_they_come_from(run: Run) -> None:
    result = run(assignments=["storage=float16"])
    found = resolve(training_toy.METHOD, str(result.weights), 2)
    net = training_toy.build(found.config)
    found.load_into(net)
    full = load_file(result.folder / "stages/main.safetensors")
    torch.testing.assert_close(net.state_dict(), full, atol=1e-3, rtol=1e-3)
    assert result.weights is not None
    text = (result.weights / "config.json").read_text() + (result.weights / "README.md").read_text()
    assert str(result.folder) not in text and str(result.folder.parent) not in text
    assert found.config["training"]["data"] == ["pairs"]
    assert found.config["training"]["train_pairs"] == 3
    assert load_file(result.weights / "model.safetensors")["head.bias"].dtype == torch.float16


def test_same_seed_same_result(run: Run, rows: Read) -> None:
    logs = [rows(run(name, seed=seed).folder) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert logs[0] == logs[1] != logs[2]


def test_exchanged_is_what_a_table_the_other_way_round_trains(
    run: Run, rows: Read, table: Path
) -> None:
    header, *pairs = (line.split(",") for line in table.read_text().splitlines())
    turned = table.parent / "turned.csv"
    swapped = [[b, a, d, c, split] for a, b, c, d, split in pairs]
    turned.write_text("\n".join(",".join(row) for row in [header, *swapped]) + "\n")
    exchanged = rows(run("a", assignments=["directions=exchanged"]).folder)
    listed = rows(run("b", data=[str(turned)], assignments=["directions=listed"]).folder)
    assert exchanged == listed != rows(run("c", assignments=["directions=listed"]).folder)


def test_ema_weights_are_validated_and_kept(run: Run) -> None:
    result = run(assignments=["ema=0.9"])
    parts, state = load_checkpoint(result.folder / "checkpoint.safetensors")
    assert result.best_step == 12 and state["numbers"]["ema_updates"] == 12
    kept = load_file(result.folder / "stages/main.safetensors")
    torch.testing.assert_close(kept, dict(parts["ema"]))
    assert not torch.equal(parts["model"]["head.weight"], kept["head.weight"])


def test_two_optimisers_in_one_stage(run: Run, rows: Read) -> None:
    result = run(preset="gan")
    parts, _ = load_checkpoint(result.folder / "checkpoint.safetensors")
    assert any(key.endswith("momentum_buffer") for key in parts["optimiser:critic"])
    assert any(key.endswith("exp_avg") for key in parts["optimiser:registrar"])
    train = [r for r in rows(result.folder) if r["kind"] == "train"]
    assert train[0]["critic.loss"] and train[0]["registrar.judged"]
    assert result.weights is not None  # without the critic
    assert set(load_file(result.weights / "model.safetensors")) == {
        "body.weight", "body.bias", "head.weight", "head.bias",
    }  # fmt: skip


def test_each_optimiser_moves_only_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from regtool.engine.training.optimisers import Turn

    moved: dict[str, set[str]] = {}
    original = Turn.step

    def step(self: Turn, *args: Any) -> torch.Tensor:
        parameters = [*self.parameters, *self._others]
        before = [p.detach().clone() for p in parameters]
        norm = original(self, *args)
        changed = {i for i, p in enumerate(parameters) if not torch.equal(p, before[i])}
        moved.setdefault(self.spec.name, set()).update(
            "own" if i < len(self.parameters) else "other" for i in changed
        )
        return norm

    monkeypatch.setattr(Turn, "step", step)
    run(preset="gan", steps=2)
    assert moved == {"registrar": {"own"}, "critic": {"own"}}


def test_stages_follow_each_other_and_frozen_parts_stay(run: Run, rows: Read) -> None:
    result = run(preset="two")
    assert result.stage == "fine"
    first, second = (load_file(result.folder / f"stages/{n}.safetensors") for n in ("main", "fine"))
    assert torch.equal(first["body.weight"], second["body.weight"])
    assert not torch.equal(first["head.weight"], second["head.weight"])
    assert [r["stage"] for r in rows(result.folder)] == ["main"] * 15 + ["fine"] * 15


def test_stages_one_by_one(run: Run, rows: Read) -> None:
    whole = run("whole", preset="two")
    first = run("parts", preset="two", stage="main")
    assert first.weights is None
    second = run("parts", preset="two", stage="fine", resume=True)
    assert rows(whole.folder) == rows(second.folder)
    kept = [load_file(r.folder / "stages/fine.safetensors") for r in (whole, second)]
    torch.testing.assert_close(kept[0], kept[1], rtol=0, atol=0)


def test_early_stopping(run: Run) -> None:
    result = run(steps=200, lr=1e-9, assignments=["patience=2", "val_every=5", "min_gain=0.01"])
    assert result.ending == "early" and result.step == 15


def test_label_loss(run: Run, rows: Read, bare_table: Path) -> None:
    result = run(steps=150, lr=0.02, label_loss=5.0)
    assert result.weights is not None and result.weights.name == "toy-tiny-sup"
    assert "soft Dice with weight 5" in (result.weights / "README.md").read_text()
    train = [r for r in rows(result.folder) if r["kind"] == "train"]
    parts = [float(train[0][name]) for name in ("image", "size", "label")]
    assert float(train[0]["loss"]) == pytest.approx(sum(parts), rel=1e-5)
    label = [float(r["label"]) for r in train]
    assert sum(label[-50:]) < 0.85 * sum(label[:50])
    assert "label" not in rows(run("plain", steps=2).folder)[0]
    with pytest.raises(UsageError, match="no labels"):
        run("none", data=[str(bare_table)], label_loss=1.0)
    with pytest.raises(UsageError, match="a number from zero up"):
        run("negative", label_loss=-1.0)


def test_without_labels_the_loss_decides(run: Run, rows: Read, bare_table: Path) -> None:
    result = run(data=[str(bare_table)])
    val = [r for r in rows(result.folder) if r["kind"] == "val"]
    assert result.best == max(-float(r["loss"]) for r in val)
    assert all(r["ncc"] and not r.get("dice") for r in val)


def test_without_validation_pairs_the_last_weights_are_kept(run: Run, table: Path) -> None:
    only = table.parent / "no_val.csv"
    lines = table.read_text().splitlines()
    only.write_text("\n".join(line for line in lines if not line.endswith(",val")))
    result = run(data=[str(only)])
    parts, _ = load_checkpoint(result.folder / "checkpoint.safetensors")
    kept = load_file(result.folder / "stages/main.safetensors")
    torch.testing.assert_close(dict(parts["model"]), kept, rtol=0, atol=0)
    assert (
        result.weights is not None and "Not validated" in (result.weights / "README.md").read_text()
    )


def test_init_weights(run: Run) -> None:
    first = run("first")
    assert first.weights is not None
    for number, source in enumerate((first.weights, first.folder)):
        second = run(f"second{number}", init_weights=str(source), steps=1, lr=1e-12)
        start = load_file(second.folder / "stages/main.safetensors")
        end = load_file(first.folder / "stages/main.safetensors")
        torch.testing.assert_close(start, end, atol=1e-3, rtol=1e-3)
    with pytest.raises(WeightsError):
        run("third", init_weights=str(first.weights), assignments=["network.width=5"])
    with pytest.raises(WeightsError):
        run("fourth", init_weights=str(first.folder / "absent"))


def test_bf16_trains(run: Run) -> None:
    result = run(precision="bf16", steps=30)
    assert result.ending == "finished" and result.best is not None and result.best > 0.5


def test_augmentation_and_channels_last(run: Run) -> None:
    result = run(assignments=["augment={'flip': ['x'], 'gamma': 0.2}", "channels_last=true"])
    assert result.ending == "finished"


def test_deterministic_on_the_cpu(run: Run) -> None:
    assert run(deterministic=True).ending == "finished"
    assert torch.are_deterministic_algorithms_enabled()
