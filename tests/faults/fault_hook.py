"""Runs inside a command: counts what it does to files below a folder, and strikes at one of them.

Python announces every file opened, renamed or removed before it happens (PEP 578); ``os.fsync`` is
announced here. An event is a line ``NAME PATH`` in a list, so that a run without a fault tells at
which points the others can be struck.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ONE = {"os.remove": 1, "os.mkdir": 2, "os.rmdir": 1, "os.truncate": None, "os.chmod": 2}
"""Events of one path, with the position of the folder that a relative path starts at."""
_TWO = {"os.rename": 1, "os.link": 1, "os.symlink": 1}
"""Events of two paths; the second one is changed."""
NEED_ROOM = ("open", "os.mkdir", "os.fsync", "os.link", "os.symlink")
"""What a full disk refuses."""
REMOVE = ("os.remove", "os.rmdir")


class Hook:
    """Counts events below ``folder`` from 1, and calls ``strike`` at the ``number``-th.

    ``reads`` counts files opened for reading instead. Events go to the file ``listing``.
    """

    def __init__(
        self,
        folder: str,
        number: int,
        strike: Callable[[Hook, str], None],
        listing: str | None = None,
        reads: bool = False,
    ) -> None:
        self.folder = os.path.realpath(folder)
        self.number, self.strike, self.reads = number, strike, reads
        self.count = 0
        self.struck = False
        self._lock = threading.RLock()
        self._busy = threading.local()
        self._listing = -1
        if listing is not None:
            self._listing = os.open(listing, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fsync = os.fsync

        def announced(descriptor: int) -> None:
            self._event("os.fsync", _of_descriptor(descriptor))
            fsync(descriptor)

        os.fsync = announced
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            text = isinstance(mode, str) and any(c in mode for c in "wax+")
            writing = text or (isinstance(flags, int) and bool(flags & _WRITING))
            if writing != self.reads and not isinstance(path, int):
                self._event(event, path)
        elif self.reads:
            return
        elif event in _ONE:
            at = _ONE[event]
            base = arguments[at] if at is not None and len(arguments) > at else -1
            self._event(event, arguments[0], base)
        elif event in _TWO:
            self._event(event, arguments[_TWO[event]])

    def _event(self, name: str, path: Any, base: Any = -1) -> None:
        if getattr(self._busy, "on", False) or path is None or isinstance(path, int):
            return
        self._busy.on = True
        try:
            text = os.fsdecode(path)
            if isinstance(base, int) and base >= 0 and not os.path.isabs(text):  # noqa: PTH117
                text = os.path.join(_of_descriptor(base), text)  # noqa: PTH118
            parent, last = os.path.split(os.path.abspath(text))  # noqa: PTH100
            where = os.path.join(os.path.realpath(parent), last)  # noqa: PTH118
            if where != self.folder and not where.startswith(self.folder + os.sep):
                return
            with self._lock:
                self.count += 1
                if self._listing >= 0:
                    os.write(self._listing, f"{name} {where}\n".encode())
                due = self.count >= self.number > 0
                if due:
                    self.strike(self, name)
                    self.struck = True
        finally:
            self._busy.on = False


def _of_descriptor(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return ""


def install(folder: str, number: int, action: str, listing: str | None = None) -> None:
    """Strike at the ``number``-th event; 0 only lists.

    ``action``: the name of a signal, of an error that this and all later events raise, or one of
    ``remove`` (the folder goes), ``clock`` (a year back), ``pause:FILE`` (say so in FILE.here and
    wait for FILE), ``lose:PATH`` (a file that is to be read goes), ``cut:PATH`` (loses its half).
    """
    word, _, more = action.partition(":")
    reads = word in ("lose", "cut")
    if word.startswith("SIG"):
        strike = _signal(int(getattr(signal, word)))
    elif word.startswith("E"):
        strike = _error(int(getattr(errno, word)))
    else:
        strike = {"remove": _remove, "clock": _clock, "pause": _pause(more), "lose": _lose(more),
                  "cut": _cut(more), "list": _nothing}[word]  # fmt: skip
    Hook(folder, number, strike, listing, reads)


def _nothing(hook: Hook, name: str) -> None:
    """Only counts."""


def _signal(number: int) -> Callable[[Hook, str], None]:
    def strike(hook: Hook, name: str) -> None:
        if not hook.struck:
            hook.struck = True
            os.kill(os.getpid(), number)

    return strike


def _error(number: int) -> Callable[[Hook, str], None]:
    def strike(hook: Hook, name: str) -> None:
        room = name in NEED_ROOM if number == errno.ENOSPC else name not in REMOVE
        if room:
            raise OSError(number, os.strerror(number))

    return strike


def _remove(hook: Hook, name: str) -> None:
    if not hook.struck:
        hook.struck = True
        shutil.rmtree(hook.folder, ignore_errors=True)


def _clock(hook: Hook, name: str) -> None:
    if not hook.struck:
        hook.struck = True
        now, year = time.time, 365.25 * 86400
        time.time = lambda: now() - year


def _pause(file: str) -> Callable[[Hook, str], None]:
    def strike(hook: Hook, name: str) -> None:
        if hook.struck:
            return
        hook.struck = True
        Path(f"{file}.here").touch()
        while not Path(file).exists():
            time.sleep(0.005)

    return strike


def _lose(file: str) -> Callable[[Hook, str], None]:
    def strike(hook: Hook, name: str) -> None:
        Path(file).unlink(missing_ok=True)

    return strike


def _cut(file: str) -> Callable[[Hook, str], None]:
    def strike(hook: Hook, name: str) -> None:
        if not hook.struck:
            hook.struck = True
            os.truncate(file, Path(file).stat().st_size // 2)

    return strike
