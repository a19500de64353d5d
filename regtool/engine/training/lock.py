"""One run at a time in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from regtool.errors import OutputError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock``; the system frees it however the process ends.

    Creates the folder, which goes again if an exception ends its use while it is empty. Raises
    OutputError when another process trains there or it cannot be made.
    """
    path, made = folder / ".lock", not folder.exists()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: a file is in the way; name another folder with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")  # a link to some other file leaves that as it is
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(
                    f"{folder}: another process is training there; wait for it, or name another "
                    "folder with -o"
                ) from error
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                if made and [p.name for p in folder.iterdir()] == [path.name]:
                    path.unlink()
                    folder.rmdir()
            raise
