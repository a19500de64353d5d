"""The program, and registrations that many tests look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_cases import FAST, Case, Program, small_pair
from evaluation_cases import write_case
from registration_cases import SIZE2, SPACING2, make_grid, transform, write_pair
from warm_cli import Ran, WarmProcess, run_fresh, script

from regtool.spatial.grid import Grid


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """Skip where the command is not installed."""
    if not script().exists():
        pytest.skip("the command regtool is not installed beside this Python")


@pytest.fixture
def regtool(warm: WarmProcess, tmp_path: Path) -> Program:
    """Run a command in ``tmp_path`` (or ``cwd``); arguments may be paths and numbers."""

    def run(
        *args: object, cwd: Path = tmp_path, env: dict[str, str] | None = None, before: str = ""
    ) -> Ran:
        return warm.run([str(a) for a in args], cwd, env, before)

    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Program:
    """Run a command in a process of its own."""

    def run(*args: object, cwd: Path = tmp_path, env: dict[str, str] | None = None) -> Ran:
        return run_fresh([str(a) for a in args], cwd, env)

    return run


def _registered(
    warm: WarmProcess, folder: Path, fixed: Grid, moving: Grid, matrix: np.ndarray, *more: str
) -> Case:
    files = write_pair(folder, fixed, moving, matrix)
    companions = [f"--{name.replace('_', '-')}={files[name]}" for name in files if "_" in name]
    args = ["register", *FAST, str(files["fixed"]), str(files["moving"]), "-o", f"{folder}/r_",
            "--inverse", "--composite", *companions, *more]  # fmt: skip
    done = warm.run(args, folder).ok()
    assert done.out == ""
    return Case(files, f"{folder}/r_", fixed, moving, matrix)


@pytest.fixture(scope="session")
def done3d(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """3-D: oblique fixed grid, flipped moving grid of another size, rigid start."""
    fixed = make_grid("oblique")
    moving = make_grid("flipped", (36, 30, 14), (2.2, 2.4, 4.5), (12.0, -18.0, 29.0))
    matrix = transform(3, (6.0, -4.0, 3.0), degrees=6)
    folder = tmp_path_factory.mktemp("three dimensions")
    return _registered(warm, folder, fixed, moving, matrix, "--initial", "rigid")


@pytest.fixture(scope="session")
def done2d(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """2-D files (X,Y): flipped fixed grid, oblique moving grid, affine start."""
    fixed = make_grid("flipped", SIZE2)
    moving = make_grid("oblique", (44, 50), (1.6, 1.5), (11.0, -19.0))
    matrix = transform(2, (5.0, -3.0), degrees=8, scale=1.05)
    folder = tmp_path_factory.mktemp("two-dimensions")
    return _registered(warm, folder, fixed, moving, matrix, "--initial", "affine")


@pytest.fixture(scope="session")
def done_slice(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Volumes of one slice (X,Y,1) in the same oblique plane, centre-of-mass start."""
    fixed = make_grid("oblique", (48, 40, 1), (1.5, 1.8, 8.0))
    moving = make_grid("oblique", (44, 42, 1), (1.6, 1.7, 8.0))
    matrix = np.eye(4)
    matrix[:3, 3] = fixed.direction_matrix @ (4.0, -3.0, 0.0)
    folder = tmp_path_factory.mktemp("one_slice")
    return _registered(warm, folder, fixed, moving, matrix, "--initial", "com")


@pytest.fixture(scope="session")
def done_level(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A one-slice volume at z = 0, the only place where ITK reads its field as it is."""
    rotate = (
        *make_grid("oblique", SIZE2).direction[:2],
        0.0,
        *make_grid("oblique", SIZE2).direction[2:],
        0.0,
        0.0,
        0.0,
        1.0,
    )
    origin = (*make_grid("oblique", SIZE2).origin, 0.0)
    fixed = Grid((*SIZE2, 1), (*SPACING2, 8.0), rotate, origin)
    matrix = np.eye(4)
    matrix[:2, 3] = 4.0, -3.0
    folder = tmp_path_factory.mktemp("level")
    return _registered(warm, folder, fixed, fixed, matrix, "--initial", "com")


@pytest.fixture(scope="session")
def done_stack(warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A stack of 7 slices of 9 mm, registered slice by slice."""
    fixed = make_grid("flipped", (40, 36, 7), (1.6, 1.8, 9.0))
    moving = make_grid("flipped", (40, 36, 7), (1.6, 1.8, 9.0))
    folder = tmp_path_factory.mktemp("stack")
    return _registered(warm, folder, fixed, moving, np.eye(4), "--slices", "z")


@pytest.fixture(scope="session", params=["done2d", "done3d", "done_slice", "done_stack"])
def done(request: pytest.FixtureRequest) -> Case:
    """Every registration in turn."""
    case: Case = request.getfixturevalue(request.param)
    return case


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Path]:
    """A 2-D pair of 32 by 28 pixels in ``tmp_path``, for tests of everything but accuracy."""
    return small_pair(tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of six pairs in two runs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(6):
        write_case(folder, seed, 1.0, f"good/pair{seed}_")
        write_case(folder, seed, 0.5, f"half/pair{seed}_")
    return folder
