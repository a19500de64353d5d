"""Pictures of each method on a generated pair: `regtool demo`, `register`, `--report-pngs`.

They are kept in build/docs-pictures under a hash of regtool, the plugin and its weights, so only
what changed is drawn again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from regtool_docs.places import CACHE, PLUGINS, ROOT

log = logging.getLogger("mkdocs.regtool")

SHOWN = {
    "moving": "Moving, before",
    "warped": "Warped, after",
    "before": "Difference before",
    "after": "Difference after",
    "mesh": "Deformation",
    "jacobian": "Jacobian",
}
"""Pictures of the report that a page shows, in this order."""

KINDS = ("heart", "brain", "lung")
PLAIN = "any"
RECORD = "regtool.json"
PREFIX = "out_"


@dataclass(frozen=True)
class Drawn:
    """The pictures of one method, how they were made, and what the record says of it."""

    files: tuple[Path, ...] = ()
    commands: tuple[str, ...] = ()
    record: dict[str, Any] | None = None


def section(method: dict[str, Any]) -> Iterator[str]:
    """The part of a method's page that shows it at work."""
    made = pictures(method)
    if not made.files or made.record is None:
        return
    yield "## On a generated pair\n"
    yield "```text\n" + "\n".join(made.commands) + "\n```\n"
    yield _sentence(made.record) + "\n"
    figures = [
        f'<figure><a href="{name}"><img src="{name}" alt="{SHOWN[path.stem]}" loading="lazy"></a>'
        "</figure>"
        for path in made.files
        for name in [f"{method['name']}-{path.name}"]
    ]
    yield '<div class="pictures">\n' + "\n".join(figures) + "\n</div>\n"


def _sentence(record: dict[str, Any]) -> str:
    dice, folds = record["dice"], record["jacobian"]["percent"]
    return (
        f"Mean Dice {dice['before']['mean']:.3f} before, {dice['after']['mean']:.3f} after; "
        f"folds {folds:.3f} %. The pair is computed, not measured: it shows how a method works, "
        "not how good it is on patients."
    )


def plan(method: dict[str, Any]) -> str | None:
    """The kind of generated pair to show a method on; None if it has no weights yet."""
    sizes = {ref["ndim"] for ref in method["weights"]} if method["trainable"] else method["ndim"]
    suited = [k for k in KINDS if PLAIN in method["anatomy"] or k in method["anatomy"]]
    if not sizes or not suited:
        return None
    ndim = min(sizes)
    if suited[0] == "heart":
        return f"heart{ndim}d"
    return suited[0] if ndim == 3 else None


@cache
def _pair(kind: str) -> Path:
    """The folder of a generated pair."""
    folder = CACHE / f"{kind}-{_hash([ROOT / 'regtool' / 'data' / 'phantoms'])[:16]}"
    if not folder.exists():
        with _made_whole(folder) as scratch:
            _run("demo", "--kind", kind, "-o", str(scratch), "-q")
    return folder


_known: dict[str, Drawn] = {}


def pictures(method: dict[str, Any]) -> Drawn:
    """The pictures of a method, drawn now unless they are there already."""
    name = method["name"]
    if name not in _known:
        kind = plan(method)
        _known[name] = Drawn() if kind is None else _drawn(method, kind)
    return _known[name]


def _drawn(method: dict[str, Any], kind: str) -> Drawn:
    name = method["name"]
    files = ("fixed.nii.gz", "moving.nii.gz")
    labels = ("--fixed-labels", "fixed_labels.nii.gz", "--moving-labels", "moving_labels.nii.gz")
    words = ("register", "-m", name, *files)
    report = ("--report", "report.html", "--report-pngs", "pngs")
    sources = [ROOT / "regtool", PLUGINS / method["package"]]
    own = Path(__file__).read_text(encoding="utf-8")
    key = _hash(sources, own, *(ref["sha256"] for ref in method["weights"]), kind)[:16]
    folder = CACHE / f"{name}-{key}"
    if not folder.exists():
        pair = _pair(kind)
        with _made_whole(folder) as scratch, tempfile.TemporaryDirectory() as work:
            for path in pair.iterdir():
                shutil.copy(path, work)
            if not _run(
                *words, *labels, *report, "-o", PREFIX, "--threads", "1", "-q", cwd=Path(work)
            ):
                return Drawn()
            _keep(Path(work), scratch)
        for older in CACHE.glob(f"{name}-{'[0-9a-f]' * 16}"):
            if older != folder:
                shutil.rmtree(older)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    typed = " \\\n    ".join(" ".join(part) for part in (("regtool", *words), labels, report))
    commands = (f"regtool demo --kind {kind}", typed)
    made = tuple(folder / f"{key}.png" for key in SHOWN if (folder / f"{key}.png").exists())
    return Drawn(made, commands, record)


def _keep(work: Path, folder: Path) -> None:
    """Keep the pictures of the first plane in 256 colours, and the record."""
    from PIL import Image

    shutil.copy(work / f"{PREFIX}{RECORD}", folder / RECORD)
    for key in SHOWN:
        found = sorted((work / "pngs").glob(f"*_{key}.png"))
        if found:
            with Image.open(found[0]) as image:
                # Colours far apart rather than frequent ones: the ends of a colour bar are rare.
                spread = Image.Quantize.MAXCOVERAGE
                small = image.convert("RGB").quantize(256, spread, dither=Image.Dither.NONE)
                small.save(folder / f"{key}.png", optimize=True)


def _run(*words: str, cwd: Path | None = None) -> bool:
    """Run regtool; False where a method's tool is not installed. Other failures end the build."""
    limits = {"OMP_NUM_THREADS": "1", "REGTOOL_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "regtool.cli.app", *words], cwd=cwd, env={**os.environ, **limits},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 5:
        log.info("no pictures: %s", done.stderr.strip())
        return False
    if done.returncode:
        raise RuntimeError(f"regtool {' '.join(words)}: {done.stderr.strip()}")
    return True


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``folder`` when all went well and something is in it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drawing-", dir=folder.parent) as outer:
        scratch = Path(outer) / folder.name
        scratch.mkdir()
        yield scratch
        if any(scratch.iterdir()):
            scratch.rename(folder)


def _hash(folders: Iterable[Path], *more: str) -> str:
    found = hashlib.sha256("\n".join(more).encode())
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in (".py", ".j2", ".css"):
                found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()
