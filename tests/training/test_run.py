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
from regtool.engine.training.export import exported_state
from regtool.engine.training.lock import locked
from regtool.engine.training.settings import read_settings
from regtool.engine.training.state import DivergedError
from regtool.errors import (
    DeviceError,
    InputError,
    OutputError,
    PluginError,
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


def test_later_stage_needs_the_earlier_one(run: Run) -> None:
    with pytest.raises(UsageError, match="train the stage 'main'"):
        run(preset="two", stage="fine")
    with pytest.raises(UsageError, match="has main, fine"):
        run("other", preset="two", stage="final")
    with pytest.raises(UsageError, match="which with --stage"):
        run("third", preset="two", batch=2)


def test_broken_loss_stops_and_keeps_the_last_good_checkpoint(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step 9.*last good state, step 6") as caught:
        run(assignments=["nan_at=8", "checkpoint_every=6"])
    assert caught.value.exit_code == 2
    parts, state = load_checkpoint(tmp_path / "run/checkpoint.safetensors")
    assert state["step"] == 6
    assert all(bool(v.isfinite().all()) for v in parts["model"].values())
    again = run("again", init_weights=str(tmp_path / "run"), lr=1e-3)
    assert again.ending == "finished"


@pytest.mark.parametrize(
    ("value", "message"),
    [(1e5, "head.bias does not fit into float16; .*storage=float32"),
     (float("nan"), "head.bias is no longer finite")],
)  # fmt: skip
def test_weights_that_cannot_be_stored(value: float, message: str) -> None:
    net = training_toy.Net(2)
    torch.nn.init.constant_(net.head.bias, value)
    with pytest.raises(UsageError, match=message):
        exported_state(net, "float16")


def test_early_stopping(run: Run) -> None:
    result = run(steps=200, lr=1e-9, assignments=["patience=2", "val_every=5", "min_gain=0.01"])
    assert result.ending == "early" and result.step == 15


def test_time_limit_leaves_checkpoint_and_weights_and_resumes(run: Run, rows: Read) -> None:
    limits = {"assignments": ["pause=0.05"], "time_limit": 2.0, "steps": 60}
    result = run("cut", **limits)
    assert result.ending == "time" and 0 < result.step < 60
    assert result.weights is not None and (result.weights / "model.safetensors").exists()
    _, state = load_checkpoint(result.folder / "checkpoint.safetensors")
    assert state["step"] == result.step
    rest = run("cut", resume=True, method=None, data=())
    straight = run("straight", **(limits | {"time_limit": None}))
    assert rest.step == 60 and rows(rest.folder) == rows(straight.folder)


def test_time_limit_before_the_first_validation_still_exports(run: Run) -> None:
    result = run(time_limit=1e-3)
    assert result.ending == "time" and result.step == 0 and result.best is None
    assert result.weights is not None and (result.weights / "config.json").exists()


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


def test_used_folder_is_refused_unless_told(run: Run, tmp_path: Path) -> None:
    run(steps=2)
    with pytest.raises(OutputError, match="not empty"):
        run()
    assert run(steps=3, overwrite=True).step == 3
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"):
        run("file")


def test_data_that_cannot_be_read_leave_nothing_in_the_way(run: Run, tmp_path: Path) -> None:
    """What was prepared before it was noticed is kept for the corrected command."""
    with pytest.raises(InputError, match="no such table"):
        run(data=[str(tmp_path / "nothing.csv")])
    assert not (tmp_path / "run").exists()
    table = training_toy.make_data(tmp_path / "own")
    (table.parent / "0_moving.nii.gz").write_bytes(b"damaged")  # of a pair that validates
    with pytest.raises(InputError, match="0_moving"):
        run(data=[str(table)])
    left = tmp_path / "run" / "cache" / "train.safetensors"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", "cache"]
    before = left.stat().st_mtime_ns
    (table.parent / "0_moving.nii.gz").write_bytes((table.parent / "1_moving.nii.gz").read_bytes())
    assert run(data=[str(table)], steps=1).step == 1
    assert left.stat().st_mtime_ns == before


def test_two_processes_do_not_share_a_folder(run: Run, tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(OutputError, match="another process"):
        run()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"lr": 0.5}, "lr: not given before, 0.5 now"), ({"seed": 3}, "seed: 0 before, 3 now"),
     ({"assignments": ["network.width=5"]}, "network.width: 4 before, 5 now"),
     ({"label_loss": 1.0}, "label_loss")],
)  # fmt: skip
def test_resume_refuses_other_settings(run: Run, change: dict[str, Any], message: str) -> None:
    run(steps=2)
    with pytest.raises(UsageError, match=message):
        run(steps=2, resume=True, **change)


def test_resume_extends_a_constant_schedule_only(run: Run, rows: Read) -> None:
    run("a", steps=8)
    longer, straight = run("a", steps=16, resume=True), run("b", steps=16)
    assert rows(longer.folder) == rows(straight.folder)
    run("c", preset="cosine", steps=8)
    with pytest.raises(UsageError, match="steps: 8 before, 16 now"):
        run("c", preset="cosine", steps=16, resume=True)


def test_resume_of_a_finished_run_changes_nothing(run: Run, rows: Read) -> None:
    before = rows(run().folder)
    again = run(resume=True)
    assert again.ending == "finished" and rows(again.folder) == before


def test_resume_notices_other_images(run: Run, tmp_path: Path) -> None:
    table = training_toy.make_data(tmp_path / "own")
    run(data=[str(table)], steps=2)
    image = table.parent / "4_moving.nii.gz"
    image.write_bytes((table.parent / "3_moving.nii.gz").read_bytes())
    with pytest.raises(UsageError, match="no longer those"):
        run(data=[str(table)], steps=2, resume=True)


def test_resume_without_a_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        run(resume=True)
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no run"):
        run(resume=True)
    with pytest.raises(UsageError, match="give only one"):
        run(resume=True, overwrite=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"method": None}, "-m METHOD"), ({"data": ()}, "--data"), ({"preset": "huge"}, "--preset"),
     ({"precision": "fp8"}, "--precision"), ({"device": "quantum"}, "--device"),
     ({"batch": 0}, "--batch")],
)  # fmt: skip
def test_wrong_requests(run: Run, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(**change)


def test_recipe_that_does_not_fit_the_model(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_toy, "build", lambda config: training_toy.Net(9))
    with pytest.raises(PluginError, match="does not fit its model"):
        run()


def test_bf16_trains(run: Run) -> None:
    result = run(precision="bf16", steps=30)
    assert result.ending == "finished" and result.best is not None and result.best > 0.5


def test_augmentation_and_channels_last(run: Run) -> None:
    result = run(assignments=["augment={'flip': ['x'], 'gamma': 0.2}", "channels_last=true"])
    assert result.ending == "finished"


def test_deterministic_on_the_cpu(run: Run) -> None:
    assert run(deterministic=True).ending == "finished"
    assert torch.are_deterministic_algorithms_enabled()


def test_deterministic_on_cuda_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from regtool.engine.training import runtime

    monkeypatch.setattr(runtime, "choose_device", lambda name: torch.device("cuda"))
    with pytest.raises(UsageError, match="grid_sample"):
        run(deterministic=True, device="cuda")


def test_resume_goes_on_on_the_same_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from regtool.engine.training import runtime

    folder = run(steps=2).folder
    asked: list[str] = []

    def note(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "choose_device", note)
        for device in (None, "auto", None, "cuda:99"):
            run(steps=2, resume=True, device=device)
    assert asked == ["cpu", "auto", "auto", "cuda:99"]
    assert read_settings(folder / "settings.json").device == "cuda:99"
    with pytest.raises(DeviceError, match="--device cuda:99"):
        run(steps=2, resume=True, device=None)
