"""Fuzzing led by coverage, of one target: ``python tests/hostile/guided.py TARGET --runs 20000``.

Needs atheris (``pip install atheris``), which is no part of the test extra: it is built for a few
versions of Python only. libFuzzer mutates the inputs that reached new lines of regtool; what is
neither accepted nor refused ends it, with the input in a file ``crash-…``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import atheris  # noqa: E402

with atheris.instrument_imports(include=["regtool"]):
    import fuzz
    from fuzz_seeds import make_seeds
    from fuzz_target import all_targets
    from fuzz_watch import Watch

    TARGETS = all_targets()
    fuzz.prepare()

from regtool.errors import RegtoolError  # noqa: E402

STARTS = 300
"""Inputs of the campaign's own mutator to begin with."""


def main() -> None:
    """Run libFuzzer on a target; it ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=20_000)
    given = parser.parse_args()
    target, here = TARGETS[given.target], Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix="regtool-guided-"))
    seeds = make_seeds(folder / "seeds")
    corpus, work = folder / "corpus", folder / "work"
    corpus.mkdir()
    for number in range(STARTS):
        data = target.make(Random(f"{target.name}/0/{number}"), seeds)
        (corpus / str(number)).write_bytes(data)
    for name in ("out", "weights", "home"):
        (work / name).mkdir(parents=True)
    tempfile.tempdir = str(work)
    os.chdir(work)
    watch = Watch(folder, here)
    beside = {Path(name): seeds.bytes[name] for name in target.beside}
    if target.begin is not None:
        target.begin(folder)

    def one(data: bytes) -> None:
        for path, content in beside.items():
            if not path.exists() or path.parent.name == "weights":
                path.write_bytes(content)
        Path(target.file).write_bytes(data)
        watch.on = True
        try:
            target.read(Path(target.file), data)
        except RegtoolError:
            pass
        finally:
            watch.on = False

    options = [f"-runs={given.runs}", "-timeout=60", "-rss_limit_mb=0", "-max_len=20000",
               f"-artifact_prefix={here}/", "-print_final_stats=1"]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
