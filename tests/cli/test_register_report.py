"""``register --report``: a page beside the files, complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_cases import QUICK, Program
from registration_cases import SIZE2, make_grid, transform, write_pair


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A 2-D pair."""
    grid = make_grid("flipped", SIZE2)
    return write_pair(tmp_path_factory.mktemp("pair"), grid, grid, transform(2, (2.0, 1.0)))


def test_the_page_and_its_pictures(
    files: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    args = ("register", *QUICK, files["fixed"], files["moving"], "-o", "r_", "--report", "r.html")
    labels = ("--fixed-labels", files["fixed_labels"], "--moving-labels", files["moving_labels"])
    done = regtool(*args, *labels, "--report-pngs", "pictures").ok()
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "wrote r.html" in done.err
    assert page.count("data:image/") >= 8 and "Dice" in page
    assert len(list((tmp_path / "pictures").glob("*.png"))) >= 8
    again = regtool(*args, "--set", "rate=0.3")
    assert again.code == 8 and "exists already" in again.err
    regtool(*args, "--overwrite").ok()


def test_pictures_need_no_page(files: dict[str, Path], regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, files["fixed"], files["moving"], "-o", "r_", "--report-pngs", "p")
    assert "wrote its pictures into p" in regtool(*args).ok().err
    assert len(list((tmp_path / "p").glob("*.png"))) >= 8
    assert not list(tmp_path.glob("*.html"))


def test_wrong_use(files: dict[str, Path], regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, files["fixed"], files["moving"], "-o", "r_", "--report", "r.pdf")
    ran = regtool(*args)
    assert ran.code == 2 and ".html" in ran.err
    assert not list(tmp_path.glob("r_*")), "refused before anything is computed"


@pytest.mark.parametrize("name", ["image_fixed.png", "axial_007_extra-Deviation.png"])
def test_pictures_that_exist_are_told_before_any_work(
    name: str, files: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "notes.png").touch()
    (pictures / name).write_bytes(b"mine")
    args = ("register", *QUICK, files["fixed"], files["moving"], "-o", "r_", "--report", "r.html",
            "--report-pngs", "pictures")  # fmt: skip
    ran = regtool(*args)
    assert ran.code == 8 and f"pictures/{name}: exists already" in ran.err
    assert not list(tmp_path.glob("r_*")), "refused before anything is computed"
    assert regtool(*args, "--dry-run").code == 8
    (pictures / name).unlink()
    regtool(*args).ok()
    assert (pictures / "notes.png").exists() and (pictures / "image_fixed.png").exists()


def test_a_rehearsal_refuses_what_the_registration_would(
    files: dict[str, Path], regtool: Program
) -> None:
    args = ("register", *QUICK, files["fixed"], files["moving"], "--report", "r.txt")
    assert regtool(*args, "--dry-run").code == 2


def test_images_in_memory_have_a_page_too(files: dict[str, Path], tmp_path: Path) -> None:
    import regtool
    from regtool.errors import UsageError
    from regtool.imaging.reading import read_image

    fixed, moving = (read_image(files[name]) for name in ("fixed", "moving"))
    page = tmp_path / "page.html"
    with pytest.raises(UsageError, match="output"):
        regtool.register(fixed, moving, "rigid", report=page)
    regtool.register(fixed, moving, "rigid", output=f"{tmp_path}/m_", report=page)
    assert page.read_text(encoding="utf-8").count("data:image/") >= 6
