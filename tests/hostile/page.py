"""Puts what the campaigns counted into docs/robustness.md: ``page.py FUZZ.json FAULTS.json``.

The arguments are the ``--state`` files of tests/hostile/fuzz.py and tests/faults/inject.py. Tables
and sums between a comment such as ``<!-- fuzz -->`` and ``<!-- / -->`` are replaced.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "robustness.md"
KINDS = ("SIGKILL", "SIGTERM", "SIGINT", "killed in the middle of a file", "ENOSPC", "full disk",
         "EIO", "read-only output", "remove", "input lose", "input cut", "two processes", "clock",
         "out of memory")  # fmt: skip
NAMES = {"ENOSPC": "no space left, from a point on", "EIO": "input/output error, from a point on",
         "full disk": "a small disk that runs full", "remove": "output folder removed",
         "input lose": "input removed while it is read", "clock": "clock set back by a year",
         "input cut": "input cut to half while it is read",
         "two processes": "two processes on one output"}  # fmt: skip
SCENARIOS = ("register", "register --overwrite", "cohort", "train", "weights pull")


def fuzz_table(state: dict[str, Any]) -> str:
    """Inputs by target."""
    lines = ["| target | inputs | accepted | refused | faults left | slowest, ms |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for name, e in state["targets"].items():
        left = sum(fault["count"] for fault in e["faults"].values())
        cells = (e["tried"], e["ok"], e["refused"], left, round(1000 * e["slowest"]))
        lines.append(f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    return "\n".join(lines)


def fuzz_sum(state: dict[str, Any]) -> str:
    """One sentence about all targets."""
    targets = state["targets"].values()
    tried = sum(e["tried"] for e in targets)
    left = sum(len(e["faults"]) for e in targets)
    mended = sum(len(e.get("mended", {})) for e in targets)
    minutes = sum(e["cpu"] for e in targets) / 60
    return (
        f"{tried:,} inputs to {len(targets)} targets, seed {state['seed']}, {minutes:.0f} minutes "
        f"of one core: {mended} kinds of fault found and mended, {left} left."
    )


def fault_table(state: dict[str, Any]) -> str:
    """Faults tried by kind and command."""
    lines = [f"| fault | {' | '.join(SCENARIOS)} | all |", "|---" + "|---:" * 6 + "|"]
    for kind in KINDS:
        counts = [state["tried"].get(f"{name}: {kind}", 0) for name in SCENARIOS]
        if any(counts):
            cells = " | ".join(str(count or "") for count in counts)
            lines.append(f"| {NAMES.get(kind, kind)} | {cells} | {sum(counts)} |")
    return "\n".join(lines)


def fault_sum(state: dict[str, Any]) -> str:
    """One sentence about all faults."""
    tried, lost = sum(state["tried"].values()), len(state["failures"])
    return f"{tried:,} faults tried, {tried - lost:,} survived."


def main(fuzz: str, faults: str) -> None:
    """Fill the page."""
    found, struck = (json.loads(Path(p).read_text(encoding="utf-8")) for p in (fuzz, faults))
    parts = {"fuzz-sum": fuzz_sum(found), "fuzz": fuzz_table(found),
             "faults-sum": fault_sum(struck), "faults": fault_table(struck)}  # fmt: skip
    text = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- / -->)"
        text, count = re.subn(pattern, lambda m, p=part: f"{m[1]}\n{p}\n\n{m[2]}", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{PAGE}: no part {name}")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
