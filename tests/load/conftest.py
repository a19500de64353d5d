"""A table of a few hundred pairs, registered once: killed in its middle, then to the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from load_cases import Place
from load_checks import KILLED_AT, PAIRS, Twice

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "weights"))  # the loopback Hub


@pytest.fixture(scope="session")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """Both runs."""
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is read from /proc")
    place = Place.make(tmp_path_factory.mktemp("load"), PAIRS)
    killed = place.register(kill=KILLED_AT)
    there = place.complete()
    return Twice(place, killed, there, place.register("--report", "all.html", every=20))
