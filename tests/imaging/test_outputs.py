"""Outputs appear complete or not at all, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from imaging_cases import grids, numbers

from regtool.errors import Interrupted, OutputError, UsageError
from regtool.imaging.reading import read_image
from regtool.imaging.writing import Outputs

GRID = grids(3)["flipped"]
NAMES = ("Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat")


def write_all(out: Outputs, value: float = 1.0) -> None:
    out.image("Warped.nii.gz", np.full(GRID.shape, value, np.float32), GRID)
    out.field("1Warp.nii.gz", np.zeros((*GRID.shape, 3), np.float32), GRID)
    out.affine("0GenericAffine.mat", np.eye(4))
    out.record({"value": value, "bad": float("nan"), "where": Path("a"), "n": np.int64(3)})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


ALL = {"a_Warped.nii.gz", "a_1Warp.nii.gz", "a_0GenericAffine.mat", "a_regtool.json"}


def test_all_files_and_the_record(tmp_path: Path) -> None:
    with Outputs(tmp_path / "new" / "deep" / "a_", NAMES) as out:
        write_all(out)
        assert set(out.digests()) == {*NAMES, "regtool.json"}
        assert not any((tmp_path / "new" / "deep").glob("a_*"))
    assert names(tmp_path / "new" / "deep") == ALL
    record = json.loads((tmp_path / "new" / "deep" / "a_regtool.json").read_text())
    assert record == {"value": 1.0, "bad": None, "where": "a", "n": 3}


def test_a_folder_as_prefix(tmp_path: Path) -> None:
    for number, prefix in enumerate((str(tmp_path), f"{tmp_path}/")):
        with Outputs(prefix, NAMES, overwrite=number > 0) as out:
            write_all(out)
    assert names(tmp_path) == {name.removeprefix("a_") for name in ALL}


def test_one_named_file(tmp_path: Path) -> None:
    with Outputs({"image": tmp_path / "x.nii.gz"}) as out:
        out.image("image", numbers(GRID.shape), GRID)
    assert names(tmp_path) == {"x.nii.gz"}
    assert read_image(tmp_path / "x.nii.gz").grid.same_as(GRID)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), Outputs(tmp_path / "new" / "a_", NAMES) as out:
        write_all(out)
        raise error
    assert names(tmp_path) == set()


def test_an_exception_keeps_what_was_there(tmp_path: Path) -> None:
    with Outputs(tmp_path / "a_", NAMES) as out:
        write_all(out, 1.0)
    before = {name: (tmp_path / name).read_bytes() for name in ALL}
    with pytest.raises(ValueError), Outputs(tmp_path / "a_", NAMES, overwrite=True) as out:
        write_all(out, 2.0)
        raise ValueError
    assert {name: (tmp_path / name).read_bytes() for name in ALL} == before


def test_a_failed_rename_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if target.name.endswith(".mat"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space"), Outputs(tmp_path / "a_", NAMES) as out:
        write_all(out)
    assert names(tmp_path) == set()


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("regtool.imaging.writing.write_field", full)
    with pytest.raises(OutputError, match=r"1Warp.*No space"), Outputs(tmp_path / "a_") as out:
        write_all(out)
    assert names(tmp_path) == set()


def test_existing_outputs(tmp_path: Path) -> None:
    (tmp_path / "a_1Warp.nii.gz").touch()
    with pytest.raises(OutputError, match="--overwrite") as caught:
        Outputs(tmp_path / "a_", NAMES)
    assert caught.value.exit_code == 8
    assert names(tmp_path) == {"a_1Warp.nii.gz"}
    with Outputs(tmp_path / "a_", NAMES, overwrite=True) as out:
        write_all(out)
    assert names(tmp_path) == ALL


def test_a_name_that_comes_up_later_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "a_Extra.nii.gz").touch()
    with pytest.raises(OutputError), Outputs(tmp_path / "a_", NAMES) as out:
        write_all(out)
        out.image("Extra.nii.gz", numbers(GRID.shape), GRID)
    assert names(tmp_path) == {"a_Extra.nii.gz"}


def test_overwriting_removes_optional_files_of_the_run_before(tmp_path: Path) -> None:
    (tmp_path / "a_1InverseWarp.nii.gz").touch()
    (tmp_path / "a_other.nii.gz").touch()
    optional = ("1InverseWarp.nii.gz",)
    with Outputs(tmp_path / "a_", NAMES, optional=optional, overwrite=True) as out:
        write_all(out)
    assert names(tmp_path) == {*ALL, "a_other.nii.gz"}


def test_an_optional_name_that_is_an_input_stays(tmp_path: Path) -> None:
    (tmp_path / "a_1InverseWarp.nii.gz").write_text("read")
    (tmp_path / "link.nii.gz").symlink_to("a_1InverseWarp.nii.gz")
    optional = ("1InverseWarp.nii.gz",)
    for given in ("a_1InverseWarp.nii.gz", "link.nii.gz"):
        with Outputs(
            tmp_path / "a_", NAMES, inputs=[tmp_path / given], optional=optional, overwrite=True
        ) as out:
            write_all(out)
        assert (tmp_path / "a_1InverseWarp.nii.gz").read_text() == "read"


@pytest.fixture
def patience() -> Iterator[None]:
    """Fail a test that waits for ever."""

    def late(*_: object) -> None:
        raise AssertionError("still waiting after 20 seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("patience")
def test_one_folder_under_two_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second lock on a folder would wait for the first one for ever."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Outputs({"a": "real/a", "b": tmp_path / "real" / "b", "c": "link/c"}) as out:
        for name in "abc":
            out.text(name, name)
    assert names(tmp_path / "real") == {"a", "b", "c"}


def test_two_outputs_that_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in (tmp_path / "out" / "a.csv", "./out/a.csv", "out/../out/a.csv"):
        with pytest.raises(UsageError, match=r"a\.csv: .*two outputs"):
            Outputs({"table": "out/a.csv", "plot": other})
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["t1.nii.gz", "t1.nii", "T1.NII.GZ", "x.mat"])
def test_a_prefix_that_is_a_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="prefix") as caught:
        Outputs(tmp_path / name, NAMES)
    assert caught.value.exit_code == 2


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "a_Warped.nii.gz").touch()
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "a_Warped.nii.gz")
    for given in ("a_Warped.nii.gz", "link.nii.gz"):
        with pytest.raises(UsageError, match="input"):
            Outputs(tmp_path / "a_", NAMES, inputs=[tmp_path / given], overwrite=True)


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="not a folder"):
        Outputs(tmp_path / "file" / "a_", NAMES)
    (tmp_path / "b_Warped.nii.gz").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        Outputs(tmp_path / "b_", NAMES, overwrite=True)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked)  # root may write
    with pytest.raises(OutputError, match="permission"):
        Outputs(locked / "deep" / "a_", NAMES)


def test_checking_touches_nothing(tmp_path: Path) -> None:
    out = Outputs(tmp_path / "new" / "a_", NAMES)
    assert out.paths["Warped.nii.gz"] == tmp_path / "new" / "a_Warped.nii.gz"
    assert names(tmp_path) == set()


SCRIPT = """
import sys, time
import numpy as np
from regtool.imaging.writing import Outputs
from regtool.spatial.grid import Grid
grid = Grid((4, 4, 4), (1., 1., 1.), (1, 0, 0, 0, 1, 0, 0, 0, 1), (0., 0., 0.))
with Outputs(sys.argv[1], ("Warped.nii.gz",)) as out:
    out.image("Warped.nii.gz", np.zeros(grid.shape), grid)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_the_middle(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, "-c", SCRIPT, str(folder / "a_")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode != 0
    if number != signal.SIGKILL:
        assert not folder.exists()
        return
    assert not list(folder.glob("a_*"))
    assert len(names(folder)) == 1  # the hidden folder, swept by the next run
    with Outputs(folder / "a_", NAMES) as out:
        write_all(out)
    assert names(folder) == ALL


def test_the_temporary_folder_of_a_living_process_stays(tmp_path: Path) -> None:
    with Outputs(tmp_path / "a_", NAMES) as one, Outputs(tmp_path / "b_", NAMES) as other:
        write_all(one)
        write_all(other)
    assert names(tmp_path) == ALL | {name.replace("a_", "b_") for name in ALL}


def test_termination_is_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), Outputs(tmp_path / "a_", NAMES):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert names(tmp_path) == set()
