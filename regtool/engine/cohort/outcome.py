"""How the pairs of a cohort ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from regtool.errors import expected, in_a_line

State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """One pair: ``failed`` has the line that says why, and the exit code it would have had."""

    name: str
    state: State
    error: str | None = None
    code: int = 0

    @classmethod
    def failure(cls, name: str, error: Exception) -> Outcome:
        """From an exception; one that nobody expected is named as such."""
        code = getattr(expected(error), "exit_code", 1)
        return cls(name, "failed", in_a_line(error), code)


@dataclass
class Tally:
    """Outcomes so far, from any thread; ``told`` hears how many of how many have ended."""

    total: int
    told: Callable[[int, int, Outcome], None] | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: Outcome) -> None:
        """Note one."""
        with self.lock:
            self.outcomes.append(outcome)
            done = len(self.outcomes)
            if self.told is not None:
                self.told(done, self.total, outcome)


def summary(outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    """Counts, the failed pairs by name, and the seconds it took; ready for JSON."""
    failed = sorted((o for o in outcomes if o.state == "failed"), key=lambda o: o.name)
    states = [o.state for o in outcomes]
    return {
        "schema": 1,
        "kind": "cohort",
        "pairs": len(outcomes),
        "done": states.count("done"),
        "skipped": states.count("skipped"),
        "failed": [{k: v for k, v in asdict(o).items() if k != "state"} for o in failed],
        "seconds": seconds,
    }
