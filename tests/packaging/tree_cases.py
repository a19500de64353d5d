"""Copies of the source tree, and what is built from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def project() -> dict[str, Any]:
    """What pyproject.toml holds."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def tracked() -> list[str]:
    """Every file of the repository, and those that are about to be added to it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return sorted(n for n in set(listed.stdout.split("\0")) if n and (ROOT / n).is_file())


def copy_tree(
    target: Path, names: list[str], *, start: Path = ROOT, whole: bool = False, mask: int = 0o022
) -> Path:
    """Copy a tree under a umask; unless ``whole``, the weights' values are cut to a few bytes.

    Copies that are compared come from one ``start``: somebody may be at work in the checkout. How
    a builder packs a file does not depend on its values, and forty megabytes take seconds.
    """
    before = os.umask(mask)
    try:
        for name in names:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".safetensors" and not whole:
                path.write_bytes((start / name).read_bytes()[:64])
            else:
                shutil.copyfile(start / name, path)
    finally:
        os.umask(before)
    return target


def build(source: Path, out: Path, kind: str, epoch: str | None = None, mask: int = 0o022) -> Path:
    """Build a ``wheel`` or ``sdist`` of a folder with the backend, without isolation, offline."""
    kept = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    if epoch is not None:
        kept["SOURCE_DATE_EPOCH"] = epoch
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)], cwd=source,
        env=kept, capture_output=True, text=True, umask=mask, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made,) = [p for p in out.iterdir() if p.name.endswith((".whl", ".tar.gz"))]
    return made


def names_of(archive: Path) -> list[str]:
    """The files in a wheel or, below its top folder, in an sdist."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return sorted(n for n in wheel.namelist() if not n.endswith("/"))
    with tarfile.open(archive) as sdist:
        files = [m for m in sdist.getmembers() if m.isfile()]
        assert len(files) == len(sdist.getmembers()), "links or devices"
        return sorted(m.name.split("/", 1)[1] for m in files)
