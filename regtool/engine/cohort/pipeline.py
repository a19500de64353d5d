"""Reading, computing and writing of many pairs at the same time."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from regtool.engine.cohort import batch
from regtool.engine.cohort.outcome import Outcome, Tally
from regtool.engine.cohort.plan import Item
from regtool.engine.cohort.room import Room
from regtool.engine.registrar import Registrar
from regtool.engine.request import Request
from regtool.engine.task import Task, finish, load, open_task, prepare
from regtool.errors import Interrupted
from regtool.plugins import discovery
from regtool.plugins.exchange import Prediction
from regtool.prepare.pair import Prepared

log = logging.getLogger("regtool.engine")

VOXELS, PAIRS = 1 << 24, 64
"""Voxels of fixed images, and pairs, in memory at once: two brains, or 64 slices."""

WRITERS = 2


@dataclass(frozen=True)
class _Ready:
    """A pair that waits for the network; ``key`` as in ``batch.key``."""

    name: str
    task: Task
    registrar: Registrar
    prepared: Prepared
    voxels: int
    key: Hashable


class Pipeline:
    """One thread reads and prepares, the caller computes, others finish and write.

    Memory is bounded by a ``Room``. A pair that fails is noted and the others go on; a method that
    cannot be loaded at all stops everything with its own error.
    """

    def __init__(self, template: Request, tally: Tally) -> None:
        self._template, self._tally = template, tally
        self._method = discovery.load(template.method)
        self._registrars: dict[int, Registrar] = {}
        self._room = Room(VOXELS, PAIRS)
        self._ready: queue.SimpleQueue[_Ready | Exception | None] = queue.SimpleQueue()
        self._writers = ThreadPoolExecutor(WRITERS, "write", initializer=_alone)

    def run(self, items: Sequence[Item]) -> None:
        """Register all; after an interruption, what is being written is finished first."""
        reader = threading.Thread(target=self._read, args=(items,), daemon=True, name="read")
        reader.start()
        try:
            self._compute()
            self._writers.shutdown(wait=True)
        except BaseException as error:
            self._end(reader)
            left = self._tally.total - len(self._tally.outcomes)
            if left and (isinstance(error, Interrupted) or not isinstance(error, Exception)):
                log.warning("%d pairs are left; the same command goes on with them", left)
            raise
        self._end(reader)

    def _end(self, reader: threading.Thread) -> None:
        self._room.close()
        self._writers.shutdown(wait=True, cancel_futures=True)
        reader.join()

    # -- the reading thread ---------------------------------------------------------------------

    def _read(self, items: Sequence[Item]) -> None:
        _alone()
        try:
            for item in items:
                if not self._read_one(item):
                    break
            self._ready.put(None)
        except Exception as error:  # of loading: all pairs would fail alike
            self._ready.put(error)

    def _read_one(self, item: Item) -> bool:
        """Prepare a pair; False when nothing is wanted any more."""
        voxels = 0
        try:
            task = open_task(item.request, f"{item.name}: ", wall=False, method=self._method)
            voxels = task.inputs.fixed.array.size
            if not self._room.enter(voxels):
                return False
        except Exception as error:
            self._tally.add(Outcome.failure(item.name, error))
            return True
        try:
            registrar = self._registrar(task.ndim)
            prepared = prepare(task, registrar)
        except Exception as error:
            self._room.leave(voxels)
            if not self._registrars:
                raise
            self._tally.add(Outcome.failure(item.name, error))
            return True
        key = batch.key(registrar, prepared)
        self._ready.put(_Ready(item.name, task, registrar, prepared, voxels, key))
        return True

    def _registrar(self, ndim: int) -> Registrar:
        if ndim not in self._registrars:
            self._registrars[ndim] = load(self._template, ndim)
        return self._registrars[ndim]

    # -- the computing thread -------------------------------------------------------------------

    def _compute(self) -> None:
        waiting: deque[_Ready | Exception | None] = deque()
        while True:
            if not waiting:
                waiting.append(self._ready.get())
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.append(self._ready.get_nowait())
            first = waiting.popleft()
            if first is None:
                return
            if isinstance(first, Exception):
                raise first
            group = [first]
            most = batch.at_once(first.registrar)
            while len(group) < most and _fits(waiting, first.key):
                group.append(waiting.popleft())  # type: ignore[arg-type]
            self._predict(group)

    def _predict(self, group: list[_Ready]) -> None:
        """Answers for a group, together or, where that fails, one by one."""
        try:
            answers = batch.predict(group[0].registrar, [r.prepared for r in group])
        except Exception as error:
            if len(group) > 1:
                for one in group:
                    self._predict([one])
                return
            self._room.leave(group[0].voxels)
            self._tally.add(Outcome.failure(group[0].name, error))
            return
        for ready, (answer, seconds) in zip(group, answers, strict=True):
            ready.task.clock.seconds["network"] = seconds
            self._writers.submit(self._finish, ready, answer)

    # -- the writing threads --------------------------------------------------------------------

    def _finish(self, ready: _Ready, answer: Prediction) -> None:
        try:
            finish(ready.task, ready.registrar, ready.prepared, answer)
            outcome = Outcome(ready.name, "done")
        except Exception as error:
            outcome = Outcome.failure(ready.name, error)
        finally:
            self._room.leave(ready.voxels)
        self._tally.add(outcome)


def _alone() -> None:
    """Compute in the calling thread only: teams of threads would wait for each other."""
    torch.set_num_threads(1)


def _fits(waiting: deque[_Ready | Exception | None], key: Hashable) -> bool:
    following = waiting[0] if waiting else None
    return key is not None and isinstance(following, _Ready) and following.key == key
