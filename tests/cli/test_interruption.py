"""Kills, signals and full disks: complete outputs or none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_cases import QUICK, Program, small_pair
from warm_cli import Ran, environment, script

Pair = dict[str, Path]
STOPS = [signal.SIGINT, signal.SIGTERM]
ALL = ("--inverse", "--composite", "--moving-labels", "moving_labels.nii.gz")
WRITTEN = ("Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat", "InverseWarped.nii.gz",
           "WarpedLabels.nii.gz", "Composite.h5", "regtool.json")  # fmt: skip


def left(folder: Path) -> list[str]:
    """Final and temporary files of the run in a folder."""
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(("out_", ".regtool")))


def stop_after_writing(name: str, number: int) -> str:
    """Python that sends the process a signal when it has written one file."""
    return f"""
import os
import regtool.imaging.writing as writing
old = writing.Outputs._write
def write(self, name, writer):
    old(self, name, writer)
    if name == {name!r}:
        os.kill(os.getpid(), {number})
writing.Outputs._write = write
"""


def stop_while_renaming(number: int, count: int) -> str:
    """Python that sends the process a signal when it has renamed ``count`` files."""
    return f"""
import os, pathlib
old = pathlib.Path.replace
renamed = []
def replace(self, target):
    old(self, target)
    renamed.append(target)
    if len(renamed) == {count}:
        os.kill(os.getpid(), {number})
pathlib.Path.replace = replace
"""


def stopped(ran: Ran, number: int) -> None:
    """The exit code and message of an interruption; killed processes say nothing."""
    if number == signal.SIGKILL:
        assert ran.code == -signal.SIGKILL
        return
    assert ran.code == 130, ran.err
    assert ran.err == f"regtool: error: stopped by {signal.Signals(number).name}\n"


@pytest.mark.parametrize("number", [*STOPS, signal.SIGKILL])
@pytest.mark.parametrize("name", WRITTEN)
def test_stopped_while_writing(
    name: str, number: int, tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", *ALL)
    ran = regtool(*args, before=stop_after_writing(name, number))
    stopped(ran, number)
    if number != signal.SIGKILL:
        assert left(tmp_path) == []
        return
    assert all(n.startswith(".regtool") for n in left(tmp_path))
    if name == WRITTEN[1]:
        regtool(*args).ok()
        assert not [n for n in left(tmp_path) if n.startswith(".")], "the next run sweeps"


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("count", [1, 4, 8])
def test_stopped_while_renaming(
    count: int, number: int, tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    """All files or none; with all of them the record is there too."""
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", *ALL)
    ran = regtool(*args, before=stop_while_renaming(number, count))
    stopped(ran, number)
    assert left(tmp_path) == [] or len(left(tmp_path)) == 8


def test_killed_while_renaming_leaves_no_record(
    tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    """Even over an old result: nothing claims success while files are replaced."""
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", *ALL)
    regtool(*args).ok()
    ran = regtool(*args, "--overwrite", before=stop_while_renaming(signal.SIGKILL, 3))
    assert ran.code == -signal.SIGKILL
    assert "out_regtool.json" not in left(tmp_path)


@pytest.mark.parametrize("number", STOPS)
def test_interrupted_overwrite_keeps_the_old_result(
    number: int, tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    regtool(*args).ok()
    before = {n: (tmp_path / n).read_bytes() for n in left(tmp_path)}
    more = ("--overwrite", "--set", "rate=0.3")
    regtool(*args, *more, before=stop_after_writing("1Warp.nii.gz", number))
    assert {n: (tmp_path / n).read_bytes() for n in left(tmp_path)} == before


@pytest.fixture(scope="module")
def plain() -> list[str]:
    """A registration that takes longer than its imports, but for the images and the prefix."""
    return [str(script()), "register", "-m", "optimise", "--set", "iterations=100,100", "-q"]


@pytest.fixture(scope="module")
def whole(plain: list[str], tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that it takes when nobody stops it."""
    folder = tmp_path_factory.mktemp("whole")
    images = small_pair(folder)
    start = time.monotonic()
    command = [*plain, str(images["fixed"]), str(images["moving"]), "-o", "all_"]
    subprocess.run(command, cwd=folder, env=environment(), check=True)
    return time.monotonic() - start


@pytest.mark.parametrize(
    ("number", "part"),
    [(signal.SIGINT, 0.05), (signal.SIGTERM, 0.3), (signal.SIGINT, 0.55), (signal.SIGKILL, 0.7),
     (signal.SIGTERM, 0.8), (signal.SIGKILL, 0.95), (signal.SIGINT, 0.95)],
)  # fmt: skip
def test_stopped_at_any_moment(
    number: int, part: float, tiny: Pair, plain: list[str], whole: float, tmp_path: Path
) -> None:
    """A process of its own, hit while it imports, reads, computes or writes."""
    command = [*plain, str(tiny["fixed"]), str(tiny["moving"]), "-o", "out_"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
                               text=True)  # fmt: skip
    wait_for_handlers(process)
    time.sleep(part * whole)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if (tmp_path / "out_regtool.json").exists():  # it was faster
        return
    finals = [n for n in left(tmp_path) if n.startswith("out_")]
    assert finals == []
    stopped(Ran(process.returncode, "", err), number)
    if number != signal.SIGKILL:
        assert left(tmp_path) == []


def wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Wait until the program has its signal handlers; before that there is only Python."""
    status = Path(f"/proc/{process.pid}/status")
    for _ in range(2000):
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt")), "0")
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "module"),
    [(signal.SIGINT, "typer"), (signal.SIGTERM, "numpy"), (signal.SIGINT, "torch"),
     (signal.SIGTERM, "torch"), (signal.SIGINT, "SimpleITK"), (signal.SIGTERM, "nibabel")],
)  # fmt: skip
def test_stopped_while_importing(number: int, module: str, tmp_path: Path) -> None:
    """Libraries turn what is raised while they are imported into errors of their own."""
    code = f"""
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({module!r} + ".") and not hit:
            hit.append(name)
            os.kill(os.getpid(), {int(number)})
hit = []
sys.meta_path.insert(0, Finder())
sys.argv = ["regtool", "register", "a.nii", "b.nii"]
from regtool.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(),
                          capture_output=True, text=True)  # fmt: skip
    stopped(Ran(done.returncode, done.stdout, done.stderr), number)


def test_ignored_interrupts_stay_ignored(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """As a shell without job control starts background commands."""
    before = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "-q")
    regtool(*args, before=before + stop_after_writing("1Warp.nii.gz", signal.SIGINT)).ok()
    assert len(left(tmp_path)) == 4


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"


@pytest.mark.parametrize("size", [100, 1500, 3000, 6000, 9000, 20000])
def test_files_that_do_not_fit(size: int, tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """A limit on the size of a file, hit by one output or another."""
    pytest.importorskip("resource")
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", *ALL, "-q")
    ran = regtool(*args, before=LIMIT.format(size))
    if ran.code == 0:
        assert max((tmp_path / n).stat().st_size for n in left(tmp_path)) <= size
        json.loads((tmp_path / "out_regtool.json").read_text("utf-8"))
        return
    assert ran.code == 8, ran.err
    if size > 1000:  # there is room for the message
        told(ran)
    assert left(tmp_path) == []


def told(ran: Ran) -> None:
    """One line, after what the HDF5 library may print by itself."""
    *noise, last = ran.err.splitlines()
    assert "cannot be written" in last
    assert not noise or noise[0].startswith("HDF5-DIAG")


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A file system of 64 KiB, where mounting is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True)
    except OSError:
        pytest.skip("no program mount")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(small_disk: Path, tiny: Pair, regtool: Program) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", small_disk / "out_", *ALL)
    for filler in range(0, 60_000, 6_000):
        (small_disk / "filler").write_bytes(os.urandom(filler))
        ran = regtool(*args, "-q")
        if ran.code == 0:
            for name in left(small_disk):
                (small_disk / name).unlink()
            continue
        assert ran.code == 8, ran.err
        told(ran)
        assert left(small_disk) == []
    assert ran.code == 8, "at last the disk is too full"
    ran = regtool("apply", tiny["moving"], "-r", tiny["fixed"], "-t", "none", "-o", "x.nii")
    assert ran.code == 3
