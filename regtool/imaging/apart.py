"""Transform files that only ITK can read, read in a process of its own.

ITK's readers, and the HDF5 library below them, crash on damaged files, or spoil the memory of the
process so that it crashes later. What comes back from the other process are plain arrays.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regtool.errors import InputError, RegtoolError
from regtool.memory import machine_memory

_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from regtool.imaging.apart import main
main(sys.argv[2], sys.argv[3])
"""
_PATIENCE = 600
"""Seconds; a field of 512 cubed takes about 30."""


def read_apart(path: Path) -> list[Any]:
    """The parts of a transform file in the order that ``resample`` takes.

    Raises InputError when it is none, or damaged.
    """
    from regtool.spatial.grid import Grid

    with tempfile.TemporaryDirectory(prefix="regtool-") as folder:
        out = Path(folder) / "parts.npz"
        arguments = [json.dumps(sys.path), str(path.absolute()), str(out)]
        try:
            done = subprocess.run(
                [sys.executable, "-c", _BOOT, *arguments], stdin=subprocess.DEVNULL,
                capture_output=True, timeout=_PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: ITK does not come to an end with this file") from None
        if done.returncode == InputError.exit_code:
            reason = done.stdout.decode("utf-8", "replace").strip()
            raise InputError(f"{path}: {reason}")
        if done.returncode != 0 or not out.is_file():
            raise InputError(f"{path}: damaged: ITK's reader broke off")
        with np.load(out, allow_pickle=False) as found:
            parts: list[Any] = []
            for number in range(int(found["count"])):
                values = found[f"values{number}"]
                if f"grid{number}" not in found:
                    parts.append(values)
                    continue
                n = values.ndim - 1
                rest = found[f"grid{number}"].tolist()
                size = tuple(reversed(values.shape[:-1]))
                grid = Grid(size, tuple(rest[:n]), tuple(rest[2 * n :]), tuple(rest[n : 2 * n]))
                parts.append((values, grid))
            return parts


def main(path: str, out: str) -> None:
    """What runs in the other process: read, and save the parts."""
    from regtool.imaging.transforms import itk_parts

    _limit()
    try:
        parts = itk_parts(Path(path))
    except RegtoolError as error:
        print(str(error).removeprefix(f"{path}: "))
        sys.exit(InputError.exit_code)
    np.savez(out, count=len(parts), **_arrays(parts))


def _arrays(parts: Sequence[Any]) -> dict[str, Any]:
    arrays = {}
    for number, part in enumerate(parts):
        if isinstance(part, tuple):
            field, grid = part
            arrays[f"values{number}"] = field
            arrays[f"grid{number}"] = np.array([*grid.spacing, *grid.origin, *grid.direction])
        else:
            arrays[f"values{number}"] = part
    return arrays


def _limit() -> None:
    """No more memory than the machine has, whatever the file claims."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    memory = machine_memory()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or hard > memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
