"""Outputs that appear all together and complete, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import Interrupted, OutputError, UsageError
from regtool.imaging.destination import (
    check_folder,
    check_name,
    checked_prefix,
    output_errors,
    same_file,
)
from regtool.imaging.image_write import check_suffix, write_image
from regtool.imaging.leftovers import flush, is_left_over, make_temporary, note, turn
from regtool.imaging.transforms import write_affine, write_composite, write_field
from regtool.imaging.volume import Kind, Volume
from regtool.paths import expanded, holds_bytes, is_dir, resolved
from regtool.plain import plain
from regtool.spatial.grid import Grid

RECORD = "regtool.json"


class Outputs:
    """A transaction over the output files of one run.

    Give a prefix and the names that follow it, or a mapping from name to path. Making the object
    checks everything that can be checked without touching the disk; entering the context makes
    the folder and a hidden temporary folder beside the destination; leaving it without an
    exception flushes the files to disk and renames them into place, the record last. After an
    exception, SIGINT or SIGTERM nothing is left behind; what a killed process left is swept by the
    next run in that folder.

    ``optional`` names may be left by an earlier run with the same prefix: when overwriting, those
    not written anew are removed, so that old and new results never mix.

    Raises UsageError for a prefix that is a file name or an output that is an input or another
    output, OutputError when an output exists (without ``overwrite``) or cannot be written.
    """

    def __init__(
        self,
        target: str | Path | Mapping[str, str | Path],
        names: Sequence[str] = (),
        *,
        inputs: Sequence[str | Path] = (),
        optional: Sequence[str] = (),
        overwrite: bool = False,
        record: str = RECORD,
    ) -> None:
        self._named_by = "name" if isinstance(target, Mapping) else "prefix"
        self._prefix = "" if isinstance(target, Mapping) else checked_prefix(target)
        self._paths: dict[str, Path] = {}
        self._places: dict[tuple[Path, str], str] = {}
        self._inputs = [expanded(p) for p in inputs]
        self._optional = tuple(optional)
        self._overwrite = overwrite
        self._record_name = record
        self._written: dict[str, Path] = {}
        self._folders: dict[Path, Path] = {}  # by the folder without links
        self._made: list[Path] = []
        self._old_handler: Any = None
        if isinstance(target, Mapping):
            for name, path in target.items():
                self._add(name, expanded(path))
        for name in (*names, *(() if isinstance(target, Mapping) else (record,))):
            self._add(name, Path(self._prefix + name))

    @property
    def paths(self) -> dict[str, Path]:
        """Final path of every output known so far, by name."""
        return dict(self._paths)

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the outputs written so far."""
        return tuple(self._written)

    def __enter__(self) -> Outputs:
        self._catch_termination()
        try:
            for path in self._paths.values():
                self._folder(path.parent)
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._clean(keep_folders=kind is None)

    def file(self, name: str) -> Path:
        """The temporary path of an output, for any writer; it keeps the final name's suffix."""
        final = self._paths.get(name)
        if final is None:
            final = Path(self._prefix + name)
            self._add(name, final)
        temporary = self._folder(final.parent) / final.name
        self._written[name] = temporary
        return temporary

    def image(
        self,
        name: str,
        array: NDArray[Any],
        grid: Grid | None = None,
        like: Volume | None = None,
        kind: Kind = "scalar",
        time_step: float = 1.0,
    ) -> None:
        """Write an image as ``write_image`` does; ``like`` gives the grid, unless it is given."""
        where = grid or (like.grid if like is not None else None)
        if where is None:
            raise ValueError("an image needs a grid or an image like it")
        check_suffix(self._paths.get(name, Path(name)))
        self._write(name, lambda path: write_image(path, array, where, like, kind, time_step))

    def field(self, name: str, field: NDArray[Any], grid: Grid) -> None:
        """Write a displacement field (*grid.shape, ndim), LPS mm."""
        self._write(name, lambda path: write_field(path, field, grid))

    def affine(self, name: str, matrix: NDArray[np.float64]) -> None:
        """Write a homogeneous world matrix."""
        self._write(name, lambda path: write_affine(path, matrix))

    def composite(
        self, name: str, affine: NDArray[np.float64], field: NDArray[Any], grid: Grid
    ) -> None:
        """Write ``A(x + u(x))`` as one ITK file."""
        self._write(name, lambda path: write_composite(path, affine, field, grid))

    def text(self, name: str, content: str) -> None:
        """Write a text file in UTF-8; bytes of file names that are none are spelt out."""
        self._write(
            name,
            lambda path: path.write_text(content, encoding="utf-8", errors="backslashreplace"),
        )

    def record(self, content: Mapping[str, Any]) -> None:
        """Write the JSON record, which is renamed into place last."""
        values = plain(content)
        text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
        if holds_bytes(text):
            text = json.dumps(values, indent=2, allow_nan=False)
        self.text(self._record_name, text + "\n")

    def digests(self) -> dict[str, str]:
        """sha256 of every output written so far, by name."""
        result = {}
        for name, path in self._written.items():
            with output_errors(self._paths[name]), path.open("rb") as stream:
                result[name] = hashlib.file_digest(stream, "sha256").hexdigest()
        return result

    def _write(self, name: str, writer: Callable[[Path], Any]) -> None:
        temporary = self.file(name)
        with output_errors(self._paths[name]):
            writer(temporary)

    def _add(self, name: str, path: Path) -> None:
        """Take in an output that can be written and is not another one under a second spelling."""
        self._check(path)
        place = resolved(path.parent), path.name
        if self._places.setdefault(place, name) != name:
            raise UsageError(f"{path}: is wanted for two outputs; choose another name for one")
        self._paths[name] = path

    def _check(self, path: Path) -> None:
        for given in self._inputs:
            if same_file(path, given):
                raise UsageError(f"{path}: is an input as well as an output; choose another name")
        check_name(path)
        if is_dir(path):
            raise OutputError(f"{path}: is a folder; an output file of this name is to be written")
        self._check_free(path)
        check_folder(path.parent)

    def _check_free(self, path: Path) -> None:
        if os.path.lexists(path) and not self._overwrite and not is_left_over(path):
            raise OutputError(
                f"{path}: exists already; use --overwrite or another {self._named_by}"
            )

    def _folder(self, folder: Path) -> Path:
        """The hidden temporary folder inside ``folder``, made on first use."""
        folder = resolved(folder)
        if folder not in self._folders:
            with output_errors(folder):
                missing = [p for p in (folder, *folder.parents) if not p.exists()]
                folder.mkdir(parents=True, exist_ok=True)
                self._made += missing
                self._folders[folder] = make_temporary(folder)
        return self._folders[folder]

    def _commit(self) -> None:
        order = sorted(self._written, key=lambda name: name == self._record_name)
        for name in order:
            with output_errors(self._paths[name]):
                flush(self._written[name])
        for temporary in self._folders.values():
            inside = [path.name for path in self._written.values() if path.parent == temporary]
            with output_errors(temporary):
                note(temporary, inside)
        with contextlib.ExitStack() as held:
            for folder in self._in_order():
                with output_errors(folder):
                    held.enter_context(turn(folder))
            self._place(order)

    def _in_order(self) -> list[Path]:
        """Every folder once, in one order everywhere, or two processes wait for each other.

        A second path to a folder that no link explains (a mount) would wait for the first.
        """
        found = {}
        for folder in self._folders:
            with output_errors(folder):
                status = folder.stat()
            found[status.st_dev, status.st_ino] = folder
        return [found[number] for number in sorted(found)]

    def _place(self, order: Sequence[str]) -> None:
        for name in order:  # another process may have been here meanwhile
            self._check_free(self._paths[name])
        placed: list[Path] = []
        try:
            self._remove_old()
            for name in order:
                with output_errors(self._paths[name]):
                    placed.append(self._paths[name])
                    self._written[name].replace(self._paths[name])
            for folder in self._folders:
                with output_errors(folder):
                    flush(folder)
        except BaseException:
            for name, path in zip(order, placed, strict=False):
                if not self._written[name].exists():  # it had been renamed
                    path.unlink(missing_ok=True)
            raise

    def _remove_old(self) -> None:
        """The old record goes first: while files are replaced, nothing claims success."""
        if not self._overwrite:
            return
        old = [self._paths[self._record_name]] if self._record_name in self._paths else []
        if self._prefix:
            left = [Path(self._prefix + n) for n in self._optional if n not in self._written]
            old += [p for p in left if not any(same_file(p, given) for given in self._inputs)]
        for path in old:
            with output_errors(path):
                path.unlink(missing_ok=True)

    def _clean(self, keep_folders: bool = False) -> None:
        for temporary in self._folders.values():
            shutil.rmtree(temporary, ignore_errors=True)
        if not keep_folders:
            for folder in self._made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        self._folders.clear()
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)
            self._old_handler = None

    def _catch_termination(self) -> None:
        """Turn SIGTERM into an exception, so that a batch system's kill leaves nothing behind."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._old_handler = signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Interrupted("stopped by SIGTERM; no output was written")
