"""The norm of each step's gradient, in log.csv: before it is clipped, never a reason to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Rows
from torch import nn

from regtool.engine.training import TrainResult
from regtool.engine.training.optimisers import Turn
from regtool.engine.training.window import Window
from regtool.plugins.training import Optimiser

Run = Callable[..., TrainResult]
Read = Callable[[Path], Rows]


def norms_of(rows: Rows, column: str) -> list[float]:
    return [float(row[column]) for row in rows if row["kind"] == "train"]


def test_each_row_has_the_norm_before_clipping(
    run: Run, rows: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    original = Turn.step

    def step(self: Turn, *args: Any) -> torch.Tensor:
        squares = [
            float(p.grad.double().pow(2).sum()) for p in self.parameters if p.grad is not None
        ]
        seen.append(math.sqrt(sum(squares)))
        return original(self, *args)

    monkeypatch.setattr(Turn, "step", step)
    found = norms_of(rows(run().folder), "gradient_norm")
    assert len(found) == 12 and found == pytest.approx(seen, rel=1e-5)


def test_rows_have_the_mean_of_their_steps(run: Run, rows: Read) -> None:
    each = norms_of(rows(run("a").folder), "gradient_norm")
    by_four = norms_of(rows(run("b", assignments=["log_every=4"]).folder), "gradient_norm")
    assert by_four == pytest.approx([sum(each[k : k + 4]) / 4 for k in (0, 4, 8)])


def test_every_optimiser_has_its_own(run: Run, rows: Read) -> None:
    found = rows(run(preset="gan").folder)
    registrar = norms_of(found, "registrar.gradient_norm")
    critic = norms_of(found, "critic.gradient_norm")
    assert min(registrar + critic) > 0 and registrar != critic


@pytest.mark.parametrize("limit", [None, 0.5, 100.0])
def test_a_turn_tells_the_whole_norm_and_applies_the_clipped_one(limit: float | None) -> None:
    net = nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()
    spec = Optimiser(1.0, kind="SGD", clip_norm=limit)
    turn = Turn(spec, net, 10, torch.device("cpu"))
    net.weight.grad = torch.tensor([[3.0, -4.0]])
    assert float(turn.step(0)) == pytest.approx(5.0)
    moved = float((net.weight.detach() - before).norm())
    assert moved == pytest.approx(min(5.0, limit or 5.0), rel=1e-4)


def test_an_infinite_norm_neither_counts_nor_ends_the_run() -> None:
    window = Window()
    for norm in (1.0, math.inf, 3.0, math.nan):
        window.add({"loss": torch.tensor(1.0)}, {"gradient_norm": torch.tensor(norm)})
    assert window.finite
    assert window.means() == {"loss": 1.0, "gradient_norm": 2.0}


def test_a_window_of_infinite_norms_has_none() -> None:
    window = Window()
    window.add({"loss": torch.tensor(2.0)}, {"gradient_norm": torch.tensor(math.inf)})
    assert window.means() == {"loss": 2.0}


def test_an_infinite_loss_does() -> None:
    window = Window()
    window.add({"loss": torch.tensor(math.inf)}, {"gradient_norm": torch.tensor(1.0)})
    assert not window.finite


def test_a_loss_that_was_wrong_at_once() -> None:
    nan = torch.tensor(float("nan"))
    window = Window()
    window.add({"a": torch.tensor(1.0), "b": nan}, {"norm": nan})
    assert window.wrong_at_once
    later = Window()
    later.add({"a": torch.tensor(1.0)}, {"norm": nan})
    later.means()
    later.add({"a": nan}, {"norm": nan})
    assert not later.finite and not later.wrong_at_once
