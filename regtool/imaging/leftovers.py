"""Hidden folders in which outputs wait until they are complete, and what killed processes left.

Only the standard library is needed here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

NAME = ".regtool-tmp"
JOURNAL = ".journal"
_swept: set[str] = set()


def make_temporary(folder: Path) -> Path:
    """A new hidden folder inside ``folder``; what dead processes left there goes first."""
    place = os.path.realpath(folder)
    if place not in _swept:  # once a process: a folder may have a hundred thousand files
        sweep(folder)
        _swept.add(place)
    return Path(tempfile.mkdtemp(prefix=f"{NAME}-{_host()}-{os.getpid()}-", dir=folder))


def note(temporary: Path, names: Iterable[str]) -> None:
    """Write down, before they are renamed, which files of a temporary folder will be."""
    facts = {}
    for name in names:
        status = (temporary / name).stat()
        facts[name] = [status.st_ino, status.st_mtime_ns]
    (temporary / JOURNAL).write_text(json.dumps(facts), encoding="utf-8")


def sweep(folder: Path) -> None:
    """Remove what dead processes left: temporary folders, and outputs that are not complete."""
    for left in _dead(folder):
        for path in _placed(left):
            with contextlib.suppress(OSError):
                path.unlink()
        shutil.rmtree(left, ignore_errors=True)


def is_left_over(path: Path) -> bool:
    """Whether a file is part of outputs that a killed process did not complete."""
    return any(path.name == other.name for left in _dead(path.parent) for other in _placed(left))


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Hold a folder, where the file system can, while several names in it change together.

    In a process that holds several, they have to be entered in one order everywhere.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a network's, perhaps
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name != "posix" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _dead(folder: Path) -> list[Path]:
    """Temporary folders of processes of this host that no longer live."""
    found = []
    for left in folder.glob(f"{NAME}-{_host()}-*"):
        pid = left.name.split("-")[-2]
        if pid.isascii() and pid.isdecimal() and len(pid) < 10 and not _alive(int(pid)):
            found.append(left)
    return found


def _placed(left: Path) -> list[Path]:
    """Files under final names that came out of a temporary folder before all had come out."""
    try:
        facts = json.loads((left / JOURNAL).read_text(encoding="utf-8"))
        if not any((left / name).exists() for name in facts):
            return []  # it was killed when all was done
        placed = []
        for name, (inode, changed) in facts.items():
            path = left.parent / name
            if Path(name).name == name and path.is_file() and not path.is_symlink():
                status = path.stat()
                if [status.st_ino, status.st_mtime_ns] == [inode, changed]:
                    placed.append(path)
        return placed
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return []


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
