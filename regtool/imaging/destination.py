"""Where outputs may go: prefixes, folders and names, looked at before anything is computed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from regtool.errors import OutputError, UsageError
from regtool.paths import exists, is_dir

_FILE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd", ".mat", ".h5", ".json", ".csv", ".gz")
_IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")


def checked_prefix(prefix: str | Path) -> str:
    """A prefix with ~ expanded; an existing folder stands for files inside it.

    Raises UsageError when it ends like a file name.
    """
    text = os.path.expanduser(os.fspath(prefix))  # noqa: PTH111 - Path drops a final slash
    for suffix in sorted(_FILE_SUFFIXES, key=len, reverse=True):
        if text.lower().endswith(suffix):
            raise UsageError(
                f"{prefix}: an output prefix, not a file name, is needed; "
                f"try {text[: -len(suffix)]}_ (files are named PREFIXWarped.nii.gz and so on)"
            )
    return text + os.sep if text and not text.endswith(os.sep) and is_dir(text) else text


def image_stem(path: str | Path) -> str:
    """The name of an image's file without its suffix, after which outputs may be named."""
    name = Path(path).name
    for suffix in _IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(path).stem


def check_folder(folder: Path) -> None:
    """Raise OutputError unless the folder is writable, or can be made."""
    existing = next(p for p in (folder, *folder.absolute().parents) if exists(p))
    if not is_dir(existing):
        raise OutputError(f"{existing}: is not a folder; outputs cannot be written there")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{existing}: no permission to write in this folder")


def check_name(path: Path) -> None:
    """Raise OutputError for a name that no file can have."""
    if "\0" in str(path):
        raise OutputError(f"{str(path)!r}: no name of a file")
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # what is said of the folder is clearer
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, or would if it were there."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return one.absolute() == other.absolute()


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while ``path`` is written into an OutputError that names it."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    except RuntimeError as error:  # SimpleITK
        last = str(error).strip().splitlines()[-1].strip()
        raise OutputError(f"{path}: cannot be written: {last}") from error
