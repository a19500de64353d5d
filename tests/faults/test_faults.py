"""A sample of the faults that ``python tests/faults/inject.py`` tries, about twenty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_injector import Injector
from fault_scenarios import Scenario
from inject import Everything

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks of POSIX")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def injector(root: Path) -> Iterator[Injector]:
    made = Injector(root, second=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def every(root: Path) -> Iterator[Everything]:
    made = Everything(root)
    yield made
    made.close()


def at(injector: Injector, scenario: Scenario, event: str, file: str, which: int = 0) -> int:
    """The number of the point at which ``event`` befalls a file whose name ends so."""
    injector.reference(scenario)
    found = [
        number
        for number, point in enumerate(injector.points[scenario.name], 1)
        if point.startswith(event + " ") and point.endswith(file)
    ]
    return found[which]


FAULTS = [
    ("register", "SIGKILL", "os.rename", "r_0GenericAffine.mat", 0),
    ("register", "SIGKILL", "os.rmdir", "", -1),
    ("register", "SIGTERM", "os.fsync", "r_Composite.h5", 0),
    ("register", "EIO", "os.rename", "r_InverseWarped.nii.gz", 0),
    ("register", "ENOSPC", "open", "r_1Warp.nii.gz", 0),
    ("register", "remove", "os.fsync", "r_1Warp.nii.gz", 0),
    ("over", "SIGKILL", "os.remove", "r_regtool.json", 0),
    ("cohort", "SIGKILL", "os.rename", "p1_Warped.nii.gz", 0),
    ("train", "SIGKILL", "os.rename", "out/settings.json", 0),
    ("train", "SIGKILL", "os.rename", "out/checkpoint.safetensors", 1),
    ("train", "SIGKILL", "os.rename", "toy-tiny/config.json", 0),
    ("train", "ENOSPC", "open", "log.csv", 1),
    ("train", "remove", "os.rename", "cache/train.safetensors", 0),
    ("pull", "SIGKILL", "os.rename", "", 0),
    ("pull", "SIGKILL", "os.rename", "copies/toy-brain", 0),
    ("pull", "SIGINT", "open", ".incomplete", 1),
    ("pull", "ENOSPC", "open", "toy-brain/model.safetensors", 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "action", "event", "file", "which"), FAULTS)
def test_faults(
    name: str, action: str, event: str, file: str, which: int, injector: Injector,
    every: Everything, root: Path,
) -> None:  # fmt: skip
    scenario = every.get(name, root, injector)
    before = len(injector.tally.failures)
    injector.strike(scenario, action, at(injector, scenario, event, file, which))
    assert injector.tally.failures[before:] == []


@pytest.mark.parametrize("size", [200, 700, 6000])
def test_killed_in_the_middle_of_a_file(
    size: int, injector: Injector, every: Everything, root: Path
) -> None:
    before = len(injector.tally.failures)
    injector.limited(every.get("register", root, injector), size)
    assert injector.tally.failures[before:] == []


@pytest.mark.parametrize("file", ["r_regtool.json"])
def test_two_processes_with_one_output(
    file: str, injector: Injector, every: Everything, root: Path
) -> None:
    """One pauses before it renames; the other goes from start to end meanwhile, or waits."""
    scenario = every.get("over", root, injector)
    before = len(injector.tally.failures)
    injector.together(scenario, at(injector, scenario, "os.fsync", file))
    assert injector.tally.failures[before:] == []
