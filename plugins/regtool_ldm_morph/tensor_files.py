"""Safetensors files that a user names."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from regtool.api import InputError


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises InputError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: cannot be read as a safetensors file ({error})") from error
