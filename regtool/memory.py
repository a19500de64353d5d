"""How much memory the machine has, and how much there is to use at this moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def machine_memory() -> int:
    """The machine's physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: torch.device) -> float | None:
    """Free memory in bytes: of the GPU, or of the machine and this process's share of it.

    What PyTorch keeps for tensors to come, and what the system keeps of files until somebody needs
    the room, counts as free. None where the system does not tell.
    """
    if device.type == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    found = [size for size in (_machine(), _group()) if size is not None]
    return min(found, default=None)


def _machine() -> float | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
        return None
    except (OSError, ValueError):
        pass
    try:
        return float(machine_memory())
    except (AttributeError, ValueError, OSError):
        return None


def _group() -> float | None:
    """What a container's limit leaves (control groups, version 2)."""
    try:
        most = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text()) - _cached()
        return None if most == "max" else float(int(most) - used)
    except (OSError, ValueError):
        return None


def _cached() -> int:
    """What the container has read of files and nobody has asked for since: given up first."""
    try:
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            name, _, size = line.partition(" ")
            if name == "inactive_file":
                return int(size)
    except (OSError, ValueError):
        pass
    return 0
