"""The processes of one launch (torchrun, accelerate launch) that share a cohort."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""How long a process that is done waits for the slowest one."""


@dataclass(frozen=True)
class Ranks:
    """This process's number, from 0, among ``count``; ``local`` is its number on this machine."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def of_environment(cls) -> Ranks:
        """As the launcher says, or alone."""
        rank, count, local = (os.environ.get(n) for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if rank is None or count is None or int(count) < 2:
            return cls()
        return cls(int(rank), int(count), int(local or 0))

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part, every ``count``-th."""
        return list(items[self.rank :: self.count])

    def device(self, name: str) -> str:
        """``auto`` as one GPU for each process of a machine, where there are any."""
        gpus = torch.cuda.device_count() if name == "auto" and self.count > 1 else 0
        return f"cuda:{self.local % gpus}" if gpus else name

    def gather(self, mine: list[T]) -> list[T]:
        """What all processes hand in, once the last one has; every process gets it.

        It also keeps the launcher from ending the others when one is done early.
        """
        if self.count == 1:
            return mine
        import torch.distributed as dist

        dist.init_process_group("gloo", timeout=_PATIENCE)
        try:
            parts: list[list[T]] = [[] for _ in range(self.count)]
            dist.all_gather_object(parts, mine)
        finally:
            dist.destroy_process_group()
        return [item for part in parts for item in part]
