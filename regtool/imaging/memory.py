"""How much memory there is. Only the standard library is needed here."""

from __future__ import annotations

import os


def machine_memory() -> int:
    """The machine's physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
