"""Settings: --set, what may change on resume, durations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import training_toy
from hypothesis import given
from hypothesis import strategies as st

from regtool.engine.training import TrainResult, stage_plan
from regtool.engine.training.settings import (
    RunSettings,
    apply_overrides,
    differences,
    loop_settings,
    plain,
    read_settings,
)
from regtool.engine.training.stop import parse_duration
from regtool.errors import InputError, PluginError, UsageError
from regtool.plugins.training import Optimiser, Stage

PRESET = training_toy.PRESET


def test_set_reaches_every_part_of_the_preset() -> None:
    changed = apply_overrides(
        PRESET, ["network.width=8", "lr=1", "preparation.size=[8, 8]", "patience=3", "name=best"]
    )
    assert changed["network"]["width"] == 8
    assert changed["training"]["lr"] == 1.0 and isinstance(changed["training"]["lr"], float)
    assert changed["preparation"]["size"] == [8, 8]
    assert changed["training"]["patience"] == 3 and changed["training"]["name"] == "best"
    assert PRESET["network"]["width"] == 4


def test_directions_are_both_listed_or_exchanged() -> None:
    def ways(*words: str) -> str:
        return loop_settings(apply_overrides(PRESET, list(words)), "main").ways

    assert ways() == ways("directions=both") == ways("both_directions=true") == "both"
    assert ways("both_directions=false") == ways("directions=listed") == "listed"
    assert ways("directions=exchanged") == "exchanged"
    assert ways("directions=exchanged", "both_directions=false") == "exchanged"
    with pytest.raises(UsageError, match="both_directions=True is an older form"):
        ways("directions=listed", "both_directions=true")
    with pytest.raises(UsageError, match=r"training\.directions"):
        ways("directions=backwards")


def test_a_stage_may_have_the_engines_keys_for_itself() -> None:
    staged = {**PRESET, "training": {**PRESET["training"], "stages": {"first": {"steps": 3}}}}
    words = ["stages.first.augment.flip=['x']", "training.stages.first.patience=2"]
    changed = apply_overrides(staged, words)
    assert loop_settings(changed, "first").augment.flip == ("x",)
    assert loop_settings(changed, "first").patience == 2
    assert loop_settings(changed, "second").augment.flip == ()
    for wrong, message in (
        ("stages.frist.patience=2", "no 'frist'"), ("stages.first.patients=2", "did you mean"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            apply_overrides(staged, [wrong])


def test_set_of_nested_augmentation() -> None:
    changed = apply_overrides(PRESET, ["training.augment.gamma=0.2", "augment.flip=('x',)"])
    augment = loop_settings(changed, "main").augment
    assert augment.gamma == 0.2 and augment.flip == ("x",)


@pytest.mark.parametrize(
    ("text", "message"),
    [("network.widht=8", "did you mean 'width'"), ("network.width=wide", "needs int"),
     ("nothing.there=1", "no 'nothing'"), ("lr", "KEY=VALUE"), ("stepps=3", "'steps'"),
     ("network.width.deep=1", "single value")],
)  # fmt: skip
def test_set_explains_mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        apply_overrides(PRESET, [text])


@pytest.mark.parametrize("text", ["patience=-1", "storage=float8", "augment.flip=['w']"])
def test_engine_settings_are_checked(text: str) -> None:
    with pytest.raises(UsageError, match=text.partition("=")[0]):
        loop_settings(apply_overrides(PRESET, [text]), "main")


def test_stage_settings_override_the_common_ones() -> None:
    training = {"patience": 1, "stages": {"b": {"patience": 2}}}
    found = [loop_settings({"training": training}, name).patience for name in "ab"]
    assert found == [1, 2]


def _settings(**changes: object) -> RunSettings:
    values = {"method": "toy", "preset_name": "tiny", "preset": PRESET, "data": ["d"]}
    return RunSettings(**(values | changes))  # type: ignore[arg-type]


def test_free_settings_may_change_on_resume() -> None:
    free = {**PRESET, "training": {**PRESET["training"], "log_every": 99, "patience": 4}}
    assert not differences(_settings(), _settings(preset=free, device="cpu", threads=7))


def test_differences_name_what_changed() -> None:
    other = {**PRESET, "network": {"width": 5}}
    found = differences(_settings(seed=1), _settings(preset=other))
    assert found == ["preset.network.width: 4 before, 5 now", "seed: 1 before, 0 now"]


def test_plain_turns_tuples_to_lists_and_refuses_objects() -> None:
    assert plain({"a": (1, (2.0, None)), "b": {"c": "x"}}) == {
        "a": [1, [2.0, None]],
        "b": {"c": "x"},
    }
    with pytest.raises(PluginError, match=r"preset\.a"):
        plain({"a": object()})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("01:30:00", 5400), ("2d", 172800),
     ("0.5h", 1800), (" 5M ", 300)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["90", "", "soon", "5x", "0s", "1:75:00", "-5m"])
def test_unclear_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="time-limit"):
        parse_duration(text)


@given(st.integers(1, 10**6))
def test_whole_seconds(seconds: int) -> None:
    assert parse_duration(f"{seconds}s") == seconds


@pytest.mark.parametrize(
    ("values", "option"),
    [({"lr": float("inf")}, "--lr"), ({"lr": float("nan")}, "--lr"), ({"lr": -1.0}, "--lr"),
     ({"label_loss": float("nan")}, "--label-loss"), ({"label_loss": -1.0}, "--label-loss")],
)  # fmt: skip
def test_weights_of_losses_and_rates_are_numbers(
    run: Callable[..., TrainResult], values: dict[str, float], option: str
) -> None:
    with pytest.raises(UsageError, match=f"^{option} .*must be a number"):
        run(**values)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("batch=0", "stage 'main': batch 0: must be at least 1"),
        ("steps=-1", "stage 'main': steps -1: must be at least 1"),
        ("lr=-1", "stage 'main': lr -1: must be a number above zero"),
        ("lr=1e999", "stage 'main': lr inf: must be a number above zero"),
        ("schedule=up", "schedule.kind 'up': choose one of constant, step, poly, cosine"),
        ("name=../x", r"training.name: cannot name a folder \(got '../x'\)"),
        ("augment.noose=1", "training.augment.noose: unknown; did you mean 'noise'?"),
        ("augment.flip=a", "must be 'x', 'y' or 'z'"),
        ("augment=1", "training.augment: is a group of settings"),
        ("patch=8", r"training.patch: needs several values, such as 96,96,96 \(got 8\)"),
    ],
)
def test_values_that_cannot_train_are_a_user_s(
    run: Callable[..., TrainResult], tmp_path: Path, setting: str, words: str
) -> None:
    """Told before anything is prepared."""
    with pytest.raises(UsageError, match=words):
        run(preset="cosine", assignments=[setting])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ema", [-0.5, 1.0, 2.0])
def test_an_average_that_is_none(ema: float) -> None:
    with pytest.raises(UsageError, match=r"ema .*: must be none, or a number from 0 to below 1"):
        stage_plan.check(Stage("main", build=None, step=None, optimisers=(Optimiser(1e-3),),
                               steps=1, ema=ema), 1, None)  # type: ignore[arg-type]  # fmt: skip


def test_words_that_look_like_numbers_and_lists_of_words() -> None:
    preset = {"network": {"variant": "2"}, "training": {"augment": {}}}
    made = apply_overrides(preset, ["network.variant=3", "augment.flip=x,y"])
    assert made["network"]["variant"] == "3"
    assert loop_settings(made, "main").augment.flip == ("x", "y")


@pytest.mark.parametrize(
    ("text", "why"), [("x", "Invalid JSON: "), ('{"method": 3}', "method: Input should be a valid")]
)
def test_settings_that_are_none_say_why(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"this version can resume \({why}"):
        read_settings(path)
