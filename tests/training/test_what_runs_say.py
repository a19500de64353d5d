"""What a training run says of itself: the best figure by its name, gains that did not come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import training_toy

from regtool.engine.training import TrainRequest, TrainResult, train
from regtool.errors import UsageError

Rows = list[dict[str, str]]
Run = Callable[..., TrainResult]
Read = Callable[[Path], Rows]


class Notes:
    """Somebody who watches and keeps what is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def start(self, label: str, done: int, total: int) -> None: ...

    def update(self, done: int, total: int, note: str = "") -> None:
        self.shown.append(note)


@pytest.mark.parametrize(("labels", "name"), [(True, "dice"), (False, "loss")])
def test_the_best_figure_has_its_name_and_sign(
    tmp_path: Path, table: Path, bare_table: Path, rows: Read, labels: bool, name: str
) -> None:
    notes = Notes()
    data = [str(table if labels else bare_table)]
    result = train(
        TrainRequest(output=tmp_path / "run", method="toy", data=data, threads=1, device="cpu"),
        notes,
    )
    _, word, value = notes.shown[-1].rsplit(", ", 1)[-1].split()
    figures = [r[name] for r in rows(result.folder) if r["kind"] == "val"]
    assert word == name and value in {f"{float(figure):.4f}" for figure in figures}


def test_validations_by_default(run: Run, rows: Read) -> None:
    def validated(name: str, steps: int) -> list[int]:
        result = run(name, steps=steps, assignments=["val_every=0"])
        return [int(r["step"]) for r in rows(result.folder) if r["kind"] == "val"]

    assert validated("few", 12) == [5, 10, 12]
    assert validated("fewer", 3) == [3]


def test_a_run_without_gain_says_so(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="regtool.train"):
        run("good", steps=40, assignments=["val_every=4"])
        assert not caplog.messages
        result = run("bad", steps=40, lr=3e-9, assignments=["val_every=4"])
    assert result.best_step == 4
    [told] = [m for m in caplog.messages if "little has changed in the 36 steps since" in m]
    assert told.endswith("(more --steps may help)")


def test_other_steps_on_resume_name_what_to_do(run: Run, tmp_path: Path) -> None:
    run(preset="cosine", steps=4)
    with pytest.raises(UsageError, match="steps: 4 before, 6 now") as caught:
        run(preset="cosine", steps=6, resume=True)
    assert f"--init-weights {tmp_path / 'run'}" in str(caught.value)
    with pytest.raises(UsageError, match=r"network\.width") as caught:
        run(preset="cosine", steps=4, resume=True, assignments=["network.width=5"])
    assert "--init-weights" not in str(caught.value)


def test_one_pair_is_no_pairs(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = training_toy.make_data(tmp_path / "own", pairs=2, val=1)
    with caplog.at_level("INFO", logger="regtool.train"):
        result = run(data=[str(table)], steps=1)
    said = "1 training pair (2 examples, both directions), 1 validation pair"
    assert said in caplog.messages
    assert result.weights is not None
    assert said in (result.weights / "README.md").read_text()


@pytest.mark.parametrize("directions", ["listed", "exchanged"])
def test_one_direction_is_one_example(
    run: Run, caplog: pytest.LogCaptureFixture, directions: str
) -> None:
    with caplog.at_level("INFO", logger="regtool.train"):
        result = run(steps=1, assignments=[f"directions={directions}"])
    said = f"3 training pairs (3 examples, {directions} direction), 2 validation pairs"
    assert said in caplog.messages
    assert result.weights is not None
    card = (result.weights / "README.md").read_text()
    assert said in card
    assert " s on CPU" in card and " h on CPU" not in card


def test_a_loss_that_is_no_number_from_the_start_is_not_the_rate(run: Run) -> None:
    for name, step in (("first", 0), ("second", 1)):
        with pytest.raises(UsageError) as caught:
            run(name, assignments=[f"nan_at={step}"])
        text = str(caught.value)
        assert ("step 1: the loss is not finite from the start" in text) is (step == 0)
        assert ("train with a lower --lr" in text) is (step == 1)
    with pytest.raises(UsageError, match="no longer finite"):
        run("later", assignments=["nan_at=4"])
    with pytest.raises(UsageError, match="no longer finite"):  # its first step, but not the run's
        run("later", resume=True)
