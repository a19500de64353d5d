"""A sample of mutants with a fixed seed: lines first, so that no crowded line weighs more."""

from __future__ import annotations

import random
from pathlib import Path

from mutant_operators import Mutant, compiles, mutants

PACKAGES = ("regtool/spatial", "regtool/imaging", "regtool/prepare", "regtool/losses")


def sample(root: Path, count: int, seed: int) -> list[Mutant]:
    """``count`` mutants, each on a line of its own, shared among the packages by their lines.

    On a line the kind of operator is drawn before the mutant, or constants would be half of all.
    """
    files = {package: sorted((root / package).rglob("*.py")) for package in PACKAGES}
    lines = {p: sum(len(f.read_text("utf-8").splitlines()) for f in files[p]) for p in PACKAGES}
    chosen: list[Mutant] = []
    for package in PACKAGES:
        share = round(count * lines[package] / sum(lines.values()))
        if package == PACKAGES[-1]:
            share = count - len(chosen)
        # A package's sample does not change with the others' files.
        chosen += _of_package(root, files[package], share, random.Random(f"{seed} {package}"))
    return chosen


def _of_package(root: Path, files: list[Path], count: int, draw: random.Random) -> list[Mutant]:
    sources = {file.relative_to(root).as_posix(): file.read_text("utf-8") for file in files}
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for path, source in sources.items():
        for mutant in mutants(path, source):
            by_line.setdefault((path, mutant.line), []).append(mutant)
    places = sorted(by_line)
    draw.shuffle(places)
    chosen: list[Mutant] = []
    for place in places:
        if len(chosen) == count:
            break
        here = [m for m in by_line[place] if compiles(m.applied(sources[m.path]))]
        if here:
            operator = draw.choice(sorted({m.operator for m in here}))
            chosen.append(draw.choice([m for m in here if m.operator == operator]))
    return sorted(chosen, key=lambda m: (m.path, m.start))
