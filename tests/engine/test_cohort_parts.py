"""Batches, the bound on memory, and who does which pairs."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from registration_cases import SIZE2, make_grid, transform, write_pair

from regtool.engine.cohort import batch
from regtool.engine.cohort.plan import shard
from regtool.engine.cohort.ranks import Ranks
from regtool.engine.cohort.room import Room
from regtool.engine.registrar import load_registrar
from regtool.engine.request import Request
from regtool.engine.task import open_task, prepare
from regtool.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("method", ["voxelmorph", "voxelmorph-diff", "ldm-morph"])
def test_a_batch_answers_as_each_pair_alone(method, tmp_path):
    grid = make_grid("identity", SIZE2)
    registrar = load_registrar(method, 2, settings=[])
    prepared = []
    for k in range(3):
        (tmp_path / str(k)).mkdir()
        files = write_pair(tmp_path / str(k), grid, grid, transform(2, (1.0 + k, 2.0)), 2.0 + k)
        task = open_task(Request(files["fixed"], files["moving"], method))
        prepared.append(prepare(task, registrar))
    keys = {batch.key(registrar, p) for p in prepared}
    assert len(keys) == 1 and None not in keys
    together = batch.predict(registrar, prepared)
    alone = [batch.predict(registrar, [p])[0] for p in prepared]
    for (one, _), (many, seconds) in zip(alone, together, strict=True):
        assert many.displacement.shape == one.displacement.shape
        assert one.displacement.abs().max() > 0.2
        torch.testing.assert_close(many.displacement, one.displacement, atol=2e-3, rtol=1e-3)
        assert seconds > 0


def test_room_bounds_what_is_inside_but_never_stops():
    room = Room(voxels=100, pairs=3)
    assert room.enter(500), "one pair always fits"
    entered = threading.Event()

    def second() -> None:
        assert room.enter(10)
        entered.set()

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    assert not entered.wait(0.1)
    room.leave(500)
    assert entered.wait(5)
    assert room.enter(10) and room.enter(10)
    full = threading.Thread(target=lambda: entered.clear() or room.enter(1), daemon=True)
    full.start()
    time.sleep(0.05)
    assert full.is_alive(), "three pairs are the most"
    room.close()
    full.join(5)
    assert not full.is_alive()
    assert not room.enter(1), "closed"


def test_ranks_and_shards_share_without_overlap(monkeypatch):
    items = list(range(11))
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    ranks = Ranks.of_environment()
    assert (ranks.rank, ranks.count) == (1, 3)
    parts = [Ranks(r, 3).share(shard(items, f"{i}/2")) for r in range(3) for i in (1, 2)]
    assert sorted(i for part in parts for i in part) == items
    assert ranks.share(items) == [1, 4, 7, 10]
    with pytest.raises(UsageError, match="i from 1 to n"):
        shard(items, "3/2")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Ranks.of_environment() == Ranks()
