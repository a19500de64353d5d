"""Checkpoints as one safetensors file: tensors by path, everything else as JSON; never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from regtool.errors import InputError, OutputError
from regtool.imaging.writing import flush

FORMAT = "regtool-checkpoint-1"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then sync and rename it into place.

    A reader, or a run killed at any moment, sees the old file or the new one, never a part.
    The folder must be there: one that somebody has removed is not made again, where half a run
    would then stand. Raises OutputError when it is gone, or full, or not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # safetensors writes for the owner alone
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> Path:
    """A folder inside one that is there. Raises OutputError."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror or error})") from error
    return folder


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed run left in ``folder``."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU and contiguous; copied where two share storage, which safetensors refuses."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        address = value.untyped_storage().data_ptr()
        whole = value.untyped_storage().nbytes() == value.nbytes
        plain[name] = value if whole and address not in seen else value.clone()
        seen.add(address)
    return plain


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``tensors`` atomically as safetensors. Raises OutputError."""
    plain = _plain(tensors)
    write_atomically(path, lambda p: save_file(plain, str(p), metadata=dict(metadata)))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (on the CPU) and metadata of a safetensors file. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error


def save_checkpoint(
    path: Path, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write named groups of tensors and a JSON state; groups must not contain ``/`` in their name.

    Raises OutputError.
    """
    tensors = {f"{group}/{key}": v for group, values in parts.items() for key, v in values.items()}
    save_tensors(path, tensors, {"format": FORMAT, "state": json.dumps(state)})


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what ``save_checkpoint`` wrote. Raises InputError."""
    tensors, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: not a training checkpoint of regtool")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        group, _, key = name.partition("/")
        parts.setdefault(group, {})[key] = value
    try:
        state = json.loads(metadata["state"])
    except (KeyError, ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise InputError(f"{path}: a damaged checkpoint: its state is not readable")
    return parts, state


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's running state as ``index/name`` tensors, in the order of its parameters.

    Parameter groups are not stored: they follow from the stage and the step. Entries that are
    None (SGD before its first step) are left out and appear by themselves.
    """
    state = optimiser.state_dict()["state"]
    return {
        f"{index}/{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimiser_tensors`` gave."""
    whole = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    whole["state"] = state
    optimiser.load_state_dict(whole)
