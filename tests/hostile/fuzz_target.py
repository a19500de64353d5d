"""What a fuzz target is, and the list of all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from fuzz_seeds import Seeds

Make = Callable[[Random, Seeds], bytes]
Read = Callable[[Path, bytes], None]

MODULES = ("fuzz_images", "fuzz_transforms", "fuzz_tables", "fuzz_records", "fuzz_weights",
           "fuzz_options", "fuzz_data", "fuzz_hub")  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Functions that read one kind of input.

    ``make`` gives a hostile input, ``read`` hands it (written to a file called ``file``, and as
    bytes) to regtool: it may return or raise RegtoolError. ``share`` is the weight among all
    targets in a campaign, by what an input costs. ``seeds`` names files that lie beside the input;
    ``strategy`` makes a hypothesis strategy of inputs. ``begin`` and ``end`` surround a block.
    """

    name: str
    make: Make
    read: Read
    file: str
    share: float = 1.0
    beside: tuple[str, ...] = ()
    strategy: Callable[[], Any] | None = None
    begin: Callable[[Path], None] | None = None
    end: Callable[[], None] | None = None


def all_targets() -> dict[str, Target]:
    """Every target by name."""
    found: dict[str, Target] = {}
    for name in MODULES:
        for target in importlib.import_module(name).TARGETS:
            found[target.name] = target
    return found
