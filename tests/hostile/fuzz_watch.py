"""What a worker must not do while it reads hostile input: write elsewhere, unpickle, start things.

Python tells of every file opened, renamed or removed, every name unpickled and every process
started before it happens (PEP 578). Compiled libraries do not; those only read here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_ONE_PATH = {"os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime",
             "shutil.rmtree", "os.setxattr"}  # fmt: skip
_TWO_PATHS = {"os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,)}
_NEVER = {
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "shelve.open",
    "webbrowser.open",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """Something that no input may make happen. No Exception, so that nobody mistakes it."""


class Watch:
    """Raises Forbidden from within what is forbidden, once it is on."""

    def __init__(self, *folders: Path) -> None:
        self._folders = tuple(os.path.realpath(f) for f in folders)
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            text = isinstance(mode, str) and any(c in mode for c in "wax+")
            if text or (isinstance(flags, int) and flags & _WRITING):
                self._inside(event, path)
        elif event in _ONE_PATH:
            self._inside(event, arguments[0])
        elif event in _TWO_PATHS:
            for at in _TWO_PATHS[event]:
                self._inside(event, arguments[at])
        elif event == "subprocess.Popen" and arguments[0] == sys.executable:
            return  # regtool reads some files in a process of its own
        elif event in _NEVER:
            self._refuse(f"{event} {arguments!r:.200}")
        elif event == "socket.connect":
            address = arguments[1]
            if not (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1", "localhost")):
                self._refuse(f"{event} {address!r}")

    def _inside(self, event: str, path: Any) -> None:
        if isinstance(path, int) or path is None:
            return
        text = os.fsdecode(path)
        folder = os.path.realpath(os.path.dirname(text) or ".")  # noqa: PTH120
        if text == os.devnull or any(
            folder == f or folder.startswith(f + os.sep) for f in self._folders
        ):
            return
        self._refuse(f"{event} {text!r:.200}")

    def _refuse(self, what: str) -> None:
        self.on = False  # the way out may write a traceback
        raise Forbidden(what)
