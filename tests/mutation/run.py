"""Mutation testing: small faults put into the source one at a time, which the tests ought to see.

    python tests/mutation/run.py --recorded FOLDER --out FOLDER   # see README.md beside this file

Why no tool from outside: mutmut 3 leaves decorated functions, signatures and everything outside
functions alone and chooses tests by function; cosmic-ray writes into the tree and starts a new
process, with ten seconds of imports, for every mutant; neither draws a sample. Here one process
has the libraries imported (not regtool) and forks for every mutant; the mutant is written into a
copy of the tree, where the fork, and the programs that its tests start, import it; the tests that
ran the line in a recorded run are run, the fast ones first. Results go to ``mutants.json`` after
every mutant; what stands there is not done again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = (
    "pytest", "numpy", "torch", "scipy.ndimage", "scipy.optimize", "SimpleITK", "nibabel",
    "PIL.Image", "pydantic", "hypothesis",
)  # fmt: skip
GIB = 1 << 30


def main() -> None:
    """Draw the sample and try each mutant that has no result yet."""
    options = _options()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        _copy(options.commit, tree)
        _enter(tree, out)
        from mutant_sample import sample
        from mutant_tests import Tests

        recorded = Tests(
            sorted(options.recorded.rglob(".coverage*")), sorted(options.recorded.rglob("*.xml")),
            tree, options.slowest,
        )  # fmt: skip
        _run(tree, ["--collect-only", "tests"], 300, out / "last.log", keep_bytecode=True)
        results = Results(out / "mutants.json")
        for mutant in sample(tree, options.count, options.seed):
            source = (tree / mutant.path).read_text("utf-8")
            key = f"{mutant.path}:{mutant.line}: {mutant.told(source)}"
            before = results.of(key)
            tests = recorded.of(mutant)
            survived = before is not None and before["outcome"] == "survived"
            again = bool(options.also) and survived
            # With more tests recorded than before, those that survived are tried on.
            if before and not again and not (survived and len(tests) > before["tests"]):
                continue
            result = {"operator": mutant.operator, "line": mutant.line, "path": mutant.path}
            with _written(tree / mutant.path, mutant.applied(source)):
                if again:
                    trial = _try(tree, options.also, 120.0, out / "last.log")
                    mended = {"killed": "mended", "timed out": "mended"}
                    outcome = mended.get(trial["outcome"], "survived")
                    result |= trial | {"outcome": outcome, "tests": len(tests)}
                else:
                    result |= _first_few_then_all(tree, tests, options.budget, out / "last.log")
            results.add(key, result)
            print(f"{result['outcome']:10} {key}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try a sample of mutants.")
    parser.add_argument("--recorded", type=Path, required=True, help="folder of the recorded run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--commit", default="HEAD", help="the commit that the run was recorded of")
    parser.add_argument("--slowest", type=float, help="leave out tests that take longer, seconds")
    parser.add_argument("--budget", type=float, default=15, help="seconds of the first tests")
    parser.add_argument("--also", nargs="*", default=[], help="new tests, for those that survived")
    return parser.parse_args()


class Results:
    """The results so far, by mutant; each is kept at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found = json.loads(file.read_text("utf-8")) if file.exists() else {}

    def of(self, key: str) -> dict[str, Any] | None:
        """The result of a mutant, if there is one."""
        return self._found.get(key)

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result."""
        self._found[key] = result
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._found, indent=1, ensure_ascii=False), "utf-8")
        fresh.replace(self._file)


def _copy(commit: str, tree: Path) -> None:
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(tree, filter="data")


def _enter(tree: Path, out: Path) -> None:
    """Let this process, its forks and what they start import regtool from the copy."""
    places = [str(tree), str(tree / "plugins")]
    sys.path[:0] = places
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(tree.parent / "hypothesis"),
    }  # fmt: skip
    os.environ.setdefault("REGTOOL_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    sys.dont_write_bytecode = True
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


@contextlib.contextmanager
def _written(file: Path, source: str) -> Any:
    """The file with another source; afterwards as it was, its time too, for its bytecode."""
    kept, status = file.read_bytes(), file.stat()
    file.write_text(source, "utf-8")
    try:
        yield
    finally:
        file.write_bytes(kept)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _first_few_then_all(
    tree: Path, tests: list[tuple[str, float]], budget: float, log: Path
) -> dict[str, Any]:
    if not tests:
        return {"outcome": "survived", "tests": 0, "why": "no test runs it"}
    first, used = [], 0.0
    for name, seconds in tests:
        if first and used + seconds > budget:
            break
        first.append(name)
        used += seconds
    result = _try(tree, first, used, log)
    rest = tests[len(first) :]
    if result["outcome"] == "survived" and rest:
        result = _try(tree, [name for name, _ in rest], sum(s for _, s in rest), log)
    return result | {"tests": len(tests)}


def _try(tree: Path, tests: list[str], seconds: float, log: Path) -> dict[str, Any]:
    """Run tests against a mutant, and say what became of it."""
    start = time.monotonic()
    code = _run(tree, tests, seconds, log)
    outcome = {0: "survived", -signal.SIGKILL: "timed out", -signal.SIGXCPU: "timed out"}
    lines = log.read_text("utf-8", errors="replace").splitlines()
    last = [line for line in lines if line.startswith(("FAILED", "ERROR"))][:1] or lines[-1:]
    return {
        "outcome": outcome.get(code, "killed"), "code": code, "last": " ".join(last)[:300],
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def _run(
    tree: Path, arguments: list[str], seconds: float, log: Path, *, keep_bytecode: bool = False
) -> int:
    """Pytest in a fork, with limits of time and memory; its exit code, or minus a signal."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        sys.dont_write_bytecode = not keep_bytecode
        _become(tree, arguments, int(30 + 3 * seconds), log)
    limit = 1200 + 20 * seconds  # on a busy machine; loops are ended by their processor time
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > limit:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests started and left
    return os.waitstatus_to_exitcode(status)


def _become(tree: Path, arguments: list[str], processor_seconds: int, log: Path) -> None:
    """Turn this fork into a run of pytest, and end it."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (processor_seconds, processor_seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (6 * GIB, 6 * GIB))
    resource.setrlimit(resource.RLIMIT_FSIZE, (GIB, GIB))
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.chdir(tree)
    code = 1
    try:
        import pytest
        import torch

        torch.set_num_threads(1)
        fixed = [
            "-x",
            "-q",
            "-n",
            "0",
            "--dist",
            "no",
            "-p",
            "no:cacheprovider",
            "--hypothesis-seed=0",
        ]
        code = int(pytest.main([*fixed, *arguments]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
