"""What must hold after a cohort of any size."""

from __future__ import annotations

from dataclasses import dataclass

from load_cases import NAMES, Ended, Place, pixels

from regtool.imaging.reading import read_image

MIB = 1 << 20
PAIRS, KILLED_AT = 300, 60


@dataclass(frozen=True)
class Twice:
    """What was complete after a run that was killed, and how the next one ended."""

    place: Place
    killed: Ended
    there: dict[str, tuple[int, int]]
    rest: Ended


def check_files(place: Place, count: int) -> None:
    """All files of all pairs, each of its own pair, and nothing else."""
    names = {f"p{k:05d}_{name}" for k in range(count) for name in NAMES}
    assert {p.name for p in place.out.iterdir()} == names | {"cohort.json"}
    for k in range(0, count, max(1, count // 50)):
        warped = read_image(place.out / f"p{k:05d}_Warped.nii.gz").array
        assert abs(warped - pixels(k)).max() < 1e-3 * max(1, k), k


def check_memory(run: Ended, early: int, late: int) -> None:
    """What a process holds does not grow with the pairs that it has done."""
    assert run.memory[late] - run.memory[early] < 16 * MIB, run.memory
