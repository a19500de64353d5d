"""What fuzzing found in the readers of data sets: each is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from regtool.data.readers import open_data
from regtool.engine.repeat.rerun import requested
from regtool.engine.training.settings import apply_overrides
from regtool.errors import InputError, UsageError
from regtool.paths import resolved

DIGITS = "9" * 5000
"""More than Python turns into an int."""


@pytest.mark.parametrize(
    "spec",
    [
        f"breathing:phantom?n={DIGITS}",
        f"breathing:phantom?seed={DIGITS}",
        "breathing:phantom?n=100001",
        f"phantom:heart2d?size={DIGITS}",
        "phantom:heart2d?n=100001",
        "phantom:heart2d?n=\u0661\u0662",
        "dirlab:.?offset=32768",
    ],
)
def test_numbers_that_are_too_large(spec: str) -> None:
    with pytest.raises(UsageError, match="a whole number from"):
        open_data(spec)


def patient(root: Path, info: str) -> Path:
    folder = root / "patient001"
    folder.mkdir()
    (folder / "Info.cfg").write_text(info)
    return root


@pytest.mark.parametrize("info", [f"ES: {DIGITS}\n", "\n" * 300_000], ids=["digits", "lines"])
def test_a_hostile_info(tmp_path: Path, info: str) -> None:
    """The second took time in proportion to the square of its length."""
    with pytest.raises(InputError, match="no line 'ES: N'"):
        open_data(f"acdc:{patient(tmp_path, info)}")


def test_an_index_nested_too_deeply(tmp_path: Path) -> None:
    root = patient(tmp_path, "ED: 1\nES: 2\n")
    (root / "index.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="not readable as JSON"):
        open_data(f"acdc:{root}")


def test_copies_in_the_home_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a folder of that name, as everywhere."""
    monkeypatch.chdir(tmp_path)
    for person in range(5):
        folder = tmp_path / f"IXI00{person}-Guys-0001-T1.nii"
        folder.write_bytes(b"never read")
    pairs = open_data("ixi:.?nifti=~nobody-of-this-name/x&split=train&val=1")
    assert all(pair.split == "train" for pair in pairs)


def test_paths_that_cannot_be_looked_up(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert resolved("a\0b") == Path("a\0b")
    assert resolved("~nobody-of-this-name/x").name == "x"
    assert resolved(tmp_path / "loop").name == "loop"


@pytest.mark.parametrize("text", ["-" * 3000 + "1", "-" * 100_000 + "1"])
def test_an_override_nested_too_deeply(text: str) -> None:
    preset = {"network": {"width": 1}}
    assert apply_overrides(preset, [f"network.width={text}"])["network"]["width"] == text


@pytest.mark.parametrize("name", ["output", "overwrite", "report", "report_pngs", "command"])
def test_a_record_names_no_place_to_write_to(name: str) -> None:
    """``regtool rerun`` of a stranger's record wrote a page wherever that said."""
    content = {"request": {"fixed": "a.nii", "moving": "b.nii", name: "elsewhere"}}
    with pytest.raises(InputError, match=f"asks for '{name}'"):
        requested("r_regtool.json", content)
