"""Fixtures of the training tests: the toy method installed, small data, a way to train."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toy

from regtool.engine.training import TrainRequest, TrainResult, train
from regtool.plugins import discovery

Rows = list[dict[str, str]]


@pytest.fixture(autouse=True)
def _toy_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(discovery, "load", lambda name: training_toy.METHOD)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pairs table with labels, 3 training and 2 validation pairs."""
    return training_toy.make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def bare_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without labels."""
    return training_toy.make_data(tmp_path_factory.mktemp("bare"), labels=False)


@pytest.fixture
def run(tmp_path: Path, table: Path) -> Callable[..., TrainResult]:
    """Train the toy method into a folder of the test's; keywords are those of TrainRequest."""

    def go(name: str = "run", **changes: Any) -> TrainResult:
        values: dict[str, Any] = {"method": "toy", "data": [str(table)], "threads": 1,
                                  "device": "cpu"}  # fmt: skip
        return train(TrainRequest(output=tmp_path / name, **(values | changes)))

    return go


@pytest.fixture
def rows() -> Callable[[Path], Rows]:
    """The log of a run folder without its times."""

    def read(folder: Path) -> Rows:
        with (folder / "log.csv").open(newline="") as file:
            found = list(csv.DictReader(file))
        for row in found:
            del row["seconds"]
        return found

    return read
