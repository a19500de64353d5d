"""Functions in a process of their own: answers, failures, deaths, interruptions, threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from regtool.engine.worker import call
from regtool.errors import PluginError

MODULE = """
import os, signal, sys, time

def double(a, noise=""):
    print(noise)                      # must not end up among the answers
    os.write(1, noise.encode())
    return 2 * a, os.getpid(), os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]

def fail():
    os.write(2, b"first line\\nDescription: an ITK ERROR happened\\nlast line\\n")
    raise ValueError("two\\nlines")

def die(number):
    os.kill(os.getpid(), number)

def sleep(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(60)

def loaded():
    return [name for name in ("torch", "SimpleITK") if name in sys.modules]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"worker_toy_{os.getpid()}_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def ask(function: str, threads: int = 1, **arguments):
    return call(function, arguments, threads=threads, what="toy")


def test_arrays_go_there_and_back_and_the_process_stays(module):
    array = np.arange(6.0).reshape(2, 3)
    first, pid, count = ask(f"{module}:double", a=array, noise="x" * 100_000)
    second, again, _ = ask(f"{module}:double", a=array)
    assert np.array_equal(first, 2 * array) and np.array_equal(second, first)
    assert pid == again != os.getpid()
    assert count == "1"


def test_another_number_of_threads_takes_another_process(module):
    _, one, _ = ask(f"{module}:double", a=1)
    _, two, count = ask(f"{module}:double", threads=2, a=1)
    assert one != two
    assert count == "2"
    assert not alive(one)


def test_a_failure_is_one_line_with_the_tools_own_words(module):
    with pytest.raises(PluginError) as caught:
        ask(f"{module}:fail")
    assert str(caught.value) == ("toy: ValueError: two lines (Description: an ITK ERROR happened)")


def test_a_death_is_told_and_the_next_call_works(module):
    with pytest.raises(PluginError, match="toy: its process was killed by SIGSEGV"):
        ask(f"{module}:die", number=int(signal.SIGSEGV))
    with pytest.raises(PluginError, match="SIGKILL"):
        ask(f"{module}:die", number=int(signal.SIGKILL))
    assert ask(f"{module}:double", a=3)[0] == 6


def test_nothing_heavy_comes_with_it(module):
    assert ask(f"{module}:loaded") == []


def test_an_interruption_ends_the_call_and_the_process(module, tmp_path):
    script = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from regtool.engine.worker import call
        call("{module}:sleep", {{"path": "pid"}}, threads=1, what="toy")
        """
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    pid = wait_for(tmp_path / "pid")
    start = time.monotonic()
    caller.send_signal(signal.SIGINT)
    caller.wait(timeout=20)
    assert time.monotonic() - start < 20
    assert caller.returncode != 0
    assert not alive(pid)


def wait_for(path) -> int:
    for _ in range(400):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("the function was never called")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
