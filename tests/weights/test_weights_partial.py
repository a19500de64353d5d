"""What killed downloads left is removed, and nothing that somebody still writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from regtool.weights.partial import drop_partial

ETAG = "a" * 64


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A complete file in a Hub cache, with a part beside it that a killed download left."""
    repository = tmp_path / "models--a--b"
    (repository / "blobs").mkdir(parents=True)
    (tmp_path / ".locks" / "models--a--b").mkdir(parents=True)
    lock(tmp_path).touch()
    (repository / "blobs" / ETAG).write_text("whole")
    part(tmp_path).write_text("wh")
    path = repository / "snapshots" / "c" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.symlink_to(repository / "blobs" / ETAG)
    return path


def lock(cache: Path) -> Path:
    return cache / ".locks" / "models--a--b" / f"{ETAG}.lock"


def part(cache: Path, etag: str = ETAG) -> Path:
    return cache / "models--a--b" / "blobs" / f"{etag}.12ab34cd.incomplete"


def test_a_part_goes_and_others_stay(cached: Path, tmp_path: Path) -> None:
    part(tmp_path, "b" * 64).write_text("of another file")
    drop_partial(cached)
    assert not part(tmp_path).exists()
    assert part(tmp_path, "b" * 64).exists()
    assert cached.read_text() == "whole"


def test_while_somebody_downloads_it_stays(cached: Path, tmp_path: Path) -> None:
    with FileLock(lock(tmp_path)):
        drop_partial(cached)
        assert part(tmp_path).exists()
    drop_partial(cached)
    assert not part(tmp_path).exists()


def test_without_a_lock_or_a_link_nothing_is_touched(cached: Path, tmp_path: Path) -> None:
    lock(tmp_path).unlink()
    drop_partial(cached)
    assert part(tmp_path).exists()
    cached.unlink()
    cached.write_text("a copy")
    lock(tmp_path).touch()
    drop_partial(cached)
    assert part(tmp_path).exists()
