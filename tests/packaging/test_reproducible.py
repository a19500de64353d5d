"""Whoever builds the same sources gets the same bytes."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from tree_cases import ROOT, build, copy_tree, names_of

from regtool.weights.files import file_sha256


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, source: Path, names: list[str]) -> Path:
    """The same tree in another folder, copied in another order on another day under a umask."""
    folder = tmp_path_factory.mktemp("else where")
    copy_tree(folder, names[::-1], start=source, mask=0o077)
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_234_567_890))
    return folder


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_folder_dates_and_umask_do_not_matter(
    kind: str, elsewhere: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    other = build(elsewhere, tmp_path, kind, mask=0o077)
    assert file_sha256(other) == file_sha256(request.getfixturevalue(kind))


def test_the_epoch_is_honoured(source: Path, wheel: Path, tmp_path: Path) -> None:
    first, again = (build(source, tmp_path / n, "wheel", epoch="1700000000") for n in "ab")
    assert file_sha256(first) == file_sha256(again) != file_sha256(wheel)
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time[:3] for entry in archive.infolist()} == {(2023, 11, 14)}
        assert all(entry.external_attr >> 16 & 0o7777 == 0o644 for entry in archive.infolist())


def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    made = build(unpacked, tmp_path / "out", "wheel")
    assert names_of(made) == names_of(wheel)
    assert file_sha256(made) == file_sha256(wheel)


@pytest.mark.slow
def test_whole_weights_as_well(tmp_path: Path, names: list[str]) -> None:
    """With their real values, forty megabytes."""
    sums, tree = [], ROOT
    for folder, mask in (("a", 0o022), ("b", 0o027)):
        tree = copy_tree(tmp_path / folder, names, start=tree, whole=True, mask=mask)
        sums.append(file_sha256(build(tree, tmp_path / f"out-{folder}", "wheel", mask=mask)))
    assert sums[0] == sums[1]
