"""What a killed process left, and two processes with one output: the parts, one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from regtool.errors import DeviceError, OutputError, expected
from regtool.imaging import leftovers
from regtool.imaging.writing import Outputs

SCRIPT = """
import os, pathlib, signal, sys
from regtool.imaging.writing import Outputs
old, done = pathlib.Path.replace, []
def replace(self, target):
    old(self, target)
    done.append(target)
    if len(done) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = replace
with Outputs(sys.argv[1], ("One.csv", "Two.csv")) as out:
    out.text("One.csv", "1")
    out.text("Two.csv", "2")
    out.record({})
"""


def killed(prefix: Path, renames: int) -> None:
    """A process that is killed when it has renamed so many of three files."""
    command = [sys.executable, "-c", SCRIPT, str(prefix), str(renames)]
    assert subprocess.run(command, check=False).returncode == -9


def write(prefix: Path) -> None:
    with Outputs(prefix, ("One.csv", "Two.csv")) as out:
        out.text("One.csv", "one")
        out.text("Two.csv", "two")
        out.record({})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("renames", [1, 2])
def test_outputs_that_were_not_completed_make_way(tmp_path: Path, renames: int) -> None:
    killed(tmp_path / "a_", renames)
    assert "a_One.csv" in names(tmp_path) and "a_regtool.json" not in names(tmp_path)
    write(tmp_path / "a_")
    assert names(tmp_path) == {"a_One.csv", "a_Two.csv", "a_regtool.json"}
    assert (tmp_path / "a_One.csv").read_text() == "one"


def test_outputs_that_were_completed_stay(tmp_path: Path) -> None:
    killed(tmp_path / "a_", 3)
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "a_")
    write(tmp_path / "b_")
    assert (tmp_path / "a_One.csv").read_text() == "1"
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    """It has the name of one that was not completed, but is another file."""
    killed(tmp_path / "a_", 1)
    (tmp_path / "a_One.csv").unlink()
    (tmp_path / "a_One.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "a_")
    write(tmp_path / "b_")
    assert (tmp_path / "a_One.csv").read_text() == "mine"


def test_a_journal_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("here")
    out = tmp_path / "out"
    left = out / f"{leftovers.NAME}-{leftovers._host()}-{dead()}-x"
    left.mkdir(parents=True)
    (left / "waiting").touch()
    status = precious.stat()
    facts = {"waiting": [0, 0], "../precious": [status.st_ino, status.st_mtime_ns]}
    (left / leftovers.JOURNAL).write_text(json.dumps(facts))
    leftovers.sweep(out)
    assert precious.exists() and not left.exists()


@pytest.mark.parametrize("pid", ["\u00b2", "9" * 30, "", "-1", "x"])
def test_a_strange_name_is_no_obstacle(tmp_path: Path, pid: str) -> None:
    """Somebody else's folder, of no process that can be: it stays."""
    left = tmp_path / f"{leftovers.NAME}-{leftovers._host()}-{pid}-x"
    left.mkdir()
    write(tmp_path / "a_")
    assert left.is_dir() and "a_regtool.json" in names(tmp_path)


@pytest.mark.parametrize(
    "journal", ["[" * 20_000, "", "[]", '{"a": 1}', '{"a": null}', "\x00", '{"": [1, 2]}']
)
def test_a_damaged_journal_is_no_obstacle(tmp_path: Path, journal: str) -> None:
    left = tmp_path / f"{leftovers.NAME}-{leftovers._host()}-{dead()}-x"
    left.mkdir()
    (left / leftovers.JOURNAL).write_text(journal)
    write(tmp_path / "a_")
    assert names(tmp_path) == {"a_One.csv", "a_Two.csv", "a_regtool.json"}


def dead() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_the_second_of_two_writers_is_refused(tmp_path: Path) -> None:
    """Both found the place free when they began."""
    refused = pytest.raises(OutputError, match="exists already")
    with refused, Outputs(tmp_path / "a_", ["One.csv"]) as one:
        with Outputs(tmp_path / "a_", ["One.csv"]) as other:
            other.text("One.csv", "first")
            other.record({})
        one.text("One.csv", "second")
        one.record({})
    assert (tmp_path / "a_One.csv").read_text() == "first"
    assert names(tmp_path) == {"a_One.csv", "a_regtool.json"}


def test_no_thread_to_be_had_is_no_bug() -> None:
    assert isinstance(expected(RuntimeError("can't start new thread")), DeviceError)
    assert expected(RuntimeError("something else")) is None


def test_python_that_has_no_room_for_its_error() -> None:
    """Met at 16 MiB: ``error return without exception set``, from the import of a module."""
    assert isinstance(expected(SystemError("error return without exception set")), DeviceError)
    nothing = SystemError("<function f> returned NULL without setting an exception")
    assert isinstance(expected(nothing), DeviceError)
    assert expected(SystemError("a bad call of a C function")) is None


def test_a_convolution_that_has_no_room() -> None:
    """Met at 16 MiB, from oneDNN; its longer sentences tell of arguments that it cannot take."""
    assert isinstance(expected(RuntimeError("could not create a primitive")), DeviceError)
    assert expected(RuntimeError("could not create a primitive descriptor for a ...")) is None


def test_an_image_that_goes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regtool.errors import InputError
    from regtool.imaging import nifti
    from regtool.imaging.reading import read_image

    file = tmp_path / "in.nii"
    file.write_bytes(bytes(400))

    def gone(path: Path) -> bytes:
        os.unlink(path)  # noqa: PTH108
        return path.read_bytes()

    monkeypatch.setattr(nifti, "first_bytes", gone)
    with pytest.raises(InputError, match="cannot be read"):
        read_image(file)
