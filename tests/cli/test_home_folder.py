"""``~`` in options that the shell leaves as they are: ``--output=~/run``, a batch file's."""

from __future__ import annotations

from pathlib import Path

from cli_cases import Program


def test_a_run_folder_at_home(regtool: Program, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    (home / "run" / "notes.txt").write_text("mine")
    ran = regtool(
        "train", "-m", "vtn", "--data", "phantom:heart3d", "--output=~/run", env={"HOME": str(home)}
    )
    assert ran.code == 8 and f"{home / 'run'}: not empty" in ran.err
    assert not (tmp_path / "~").exists()


def test_a_log_file_at_home(regtool: Program, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ran = regtool("jacobian", "none.nii.gz", "--log-file=~/run.log", env={"HOME": str(home)})
    assert ran.code == 3 and "none.nii.gz" in (home / "run.log").read_text()
