"""A bound on how much is in memory at once."""

from __future__ import annotations

import threading


class Room:
    """Voxels, and pairs, that may be between reading and writing at a time.

    One pair always fits, however large; a second one waits until there is room.
    """

    def __init__(self, voxels: int, pairs: int) -> None:
        self._voxels, self._pairs = voxels, pairs
        self._used: list[int] = []
        self._free = threading.Condition()
        self._closed = False

    def enter(self, voxels: int) -> bool:
        """Wait for room and take it; False when the room was closed meanwhile."""
        with self._free:
            self._free.wait_for(lambda: self._closed or self._fits(voxels))
            if self._closed:
                return False
            self._used.append(voxels)
            return True

    def leave(self, voxels: int) -> None:
        """Give back what was taken."""
        with self._free:
            self._used.remove(voxels)
            self._free.notify_all()

    def close(self) -> None:
        """Let nobody in any more."""
        with self._free:
            self._closed = True
            self._free.notify_all()

    def _fits(self, voxels: int) -> bool:
        if not self._used:
            return True
        return len(self._used) < self._pairs and sum(self._used) + voxels <= self._voxels
