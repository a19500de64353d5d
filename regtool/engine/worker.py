"""Runs a function of a plugin in a process of its own, which stays for the next call.

Compiled registration tools hold the interpreter while they work, print to the terminal, take their
number of threads from the environment at start, and may crash. In a process of its own none of this
reaches the caller, who can be interrupted at any time.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from regtool.errors import PluginError

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from regtool.engine.worker import serve
serve()
"""


def call(function: str, arguments: Mapping[str, Any], *, threads: int, what: str) -> Any:
    """Return ``function(**arguments)``, computed in another process with ``threads`` CPU threads.

    ``function`` is ``"package.module:name"``; its module should import what the function needs and
    not much more. Arguments and answer are pickled (numpy arrays, numbers, texts). The process is
    started on first use and serves later calls of the same function with the same ``threads``; it
    ends with this one, and at once when the call is interrupted.
    Raises PluginError, beginning with ``what``, when the function raises or its process dies.
    """
    with _lock:
        worker = _ready(function, threads)
        try:
            done, answer = worker.ask(function, arguments)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            code = worker.stop()
            raise PluginError(f"{what}: its process {_ended(code)}{worker.complaint()}") from error
        except BaseException:  # also an interruption: nobody will read the answer
            worker.stop()
            raise
    if not done:
        raise PluginError(f"{what}: {answer}{worker.complaint()}")
    return answer


def serve() -> None:
    """Answer calls until standard input ends; what runs in the other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides and ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a tool prints goes to the log
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            module, _, name = function.partition(":")
            answer = True, getattr(importlib.import_module(module), name)(**arguments)
        except Exception as error:
            answer = False, " ".join(f"{type(error).__name__}: {error}".split())
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


class _Worker:
    """One process, its pipes and what it printed."""

    def __init__(self, threads: int) -> None:
        self.threads, self.owner = threads, os.getpid()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        count = str(threads)
        limits = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": count, "OMP_NUM_THREADS": count}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **limits},
        )

    def ask(self, function: str, arguments: Mapping[str, Any]) -> tuple[bool, Any]:
        """Send one call and wait for ``(done, answer)``."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.log.seek(0)
        self.log.truncate()
        pickle.dump((function, dict(arguments)), self.process.stdin, protocol=5)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def complaint(self) -> str:
        """The last line about an error that the process printed, as the end of a message."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()
        found = [" ".join(line.split()) for line in lines if "error" in line.lower()]
        return f" ({found[-1]})" if found else ""

    def stop(self) -> int:
        """End the process and return its exit code."""
        self.process.kill()
        code = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        return code

    @property
    def usable(self) -> bool:
        """Whether the process lives and was started by this one, not by one it was forked from."""
        return self.owner == os.getpid() and self.process.poll() is None


_lock = threading.Lock()
_workers: dict[str, _Worker] = {}


def _ready(function: str, threads: int) -> _Worker:
    worker = _workers.get(function)
    if worker is not None and worker.usable:
        if worker.threads == threads:
            return worker
        worker.stop()
    _workers[function] = _Worker(threads)
    return _workers[function]


@atexit.register
def _stop_all() -> None:
    for worker in _workers.values():
        if worker.usable:
            worker.stop()


def _ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
