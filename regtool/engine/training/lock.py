"""One run at a time in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from regtool.errors import OutputError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock``; the system frees it however the process ends.

    Creates the folder. If an exception ends its use before anything else was written there, lock
    and folders go again, so that a refused folder is as it was found. Raises OutputError when
    another process trains there or it cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: a file is in the way; name another folder with -o")
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _names(folder)
        file = _open_locked(path)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    if file is None:
        raise OutputError(
            f"{folder}: another process is training there; wait for it, or name another folder "
            "with -o"
        )
    with file:
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                if path.name not in before and _names(folder) == before | {path.name}:
                    path.unlink()
                    for place in made:
                        place.rmdir()
            raise


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _open_locked(path: Path) -> IO[str] | None:
    """The lock's file, locked; None where another process has it. Raises OSError."""
    while True:
        file = path.open("a")  # a link to some other file leaves that as it is
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except (BlockingIOError, PermissionError):
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        file.close()  # its owner has removed it since it was opened
