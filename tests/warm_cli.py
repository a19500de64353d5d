"""Runs the installed program: in a fresh process, or in a fork of one that has imported torch.

A fork runs the same entry point with the same arguments, folder, environment and streams; it only
spares the seconds of importing. Run as a script, this file is the process that forks.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME_VARIABLES = {"OMP_NUM_THREADS": "1", "REGTOOL_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TRAINING = (
    "regtool.engine.training.run", "accelerate", "torch._inductor", "torch.utils.tensorboard",
)  # fmt: skip
"""What only ``regtool train`` imports; it takes longer than a short training run."""


@dataclass(frozen=True)
class Ran:
    """How a command ended: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    def ok(self) -> Ran:
        """This result, which must be a success."""
        assert self.code == 0, f"exit {self.code}: {self.err}"
        return self


def script() -> Path:
    """The installed command, beside the running Python."""
    return Path(sys.executable).with_name("regtool")


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: without the developer's own settings of regtool."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("REGTOOL_", "NO_COLOR"))}
    return {**kept, **HOME_VARIABLES, **(extra or {})}


def run_fresh(args: list[str], cwd: Path, env: dict[str, str] | None = None, **more: Any) -> Ran:
    """Run the installed command in a process of its own."""
    done = subprocess.run(
        [str(script()), *args], cwd=cwd, env=environment(env), capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=240, **more,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def seen(*folders: Path) -> str:
    """Python that lets a command find the distributions in ``folders``: ``before`` of a fork."""
    return f"import sys\nsys.path[:0] = {[str(folder) for folder in folders]!r}\n"


class WarmProcess:
    """A process that waits with all libraries imported and forks for every command."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip

    def run(
        self, args: list[str], cwd: Path, env: dict[str, str] | None = None, before: str = ""
    ) -> Ran:
        """Run one command and wait for it; ``before`` is Python to run first in its process."""
        out, err = self._scratch / "stdout", self._scratch / "stderr"
        order = {"args": args, "cwd": str(cwd), "env": environment(env), "out": str(out),
                 "err": str(err), "before": before,
                 "ahead": TRAINING if args[:1] == ["train"] else ()}  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the forking process has died"
        return Ran(int(answer), out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=120)


def _serve() -> None:
    import regtool.engine.apply
    import regtool.engine.dryrun
    import regtool.engine.jacobian
    import regtool.engine.register  # noqa: F401
    from regtool.cli import app

    app.create()
    for line in sys.stdin:
        order = json.loads(line)
        for name in order["ahead"]:
            importlib.import_module(name)
        child = os.fork()
        if child == 0:
            _become(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order: dict[str, Any]) -> None:
    """Turn this fork into the command, and end it."""
    from importlib.metadata import entry_points

    for number, name in ((1, order["out"]), (2, order["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = ["regtool", *order["args"]]
    code = 1
    try:
        exec(order["before"], {})
        (entry,) = entry_points(group="console_scripts", name="regtool")
        entry.load()()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
