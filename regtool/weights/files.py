"""Checks of weights files that need no tensor library: hash, safetensors header, config.json."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regtool.errors import WeightsError
from regtool.plugins.description import API_VERSION, Method

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
SCHEMA = 1

PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar"})
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_CONFIG_BYTES = 2**20
_MAX_AXES = 8
_MAX_AXIS = 2**31 - 1
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8,
    "F16": 2, "BF16": 2, "F32": 4, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorInfo:
    """Kind and shape of one stored tensor; ``dtype`` as safetensors spells it (``F16``)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def floating(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.dtype in {"F16", "BF16", "F32", "F64"}


def refuse_pickle(path: str | os.PathLike[str]) -> None:
    """Raise WeightsError if ``path`` has a name under which pickles are saved."""
    if Path(path).suffix.lower() in PICKLE_SUFFIXES:
        raise WeightsError(
            f"{path}: refused, pickle checkpoints can run any code when loaded; "
            f"convert it to {MODEL_FILE} with a {CONFIG_FILE} beside it"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content in 64 lower-case hexadecimal digits."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Names, kinds and shapes in a safetensors file, checked against the file's own size.

    Raises WeightsError for anything but a complete safetensors file: a truncated one, trailing
    bytes, overlapping tensors, a header or a shape of absurd size, a Git LFS pointer, a pickle.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                # Only here: a header of 128 bytes begins as pickles do.
                _refuse_other_formats(path, start)
                raise WeightsError(
                    f"{path}: not a complete safetensors file "
                    f"(header of {length} bytes in a file of {size})"
                )
            text = stream.read(length)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged safetensors header (not JSON)") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: damaged safetensors header (no table of tensors)")
    header.pop("__metadata__", None)
    return _check_tensors(path, header, size - 8 - length)


def _refuse_other_formats(path: Path, start: bytes) -> None:
    if start == b"version ":
        raise WeightsError(
            f"{path}: a Git LFS pointer, not the weights; run 'git lfs pull' in its repository"
        )
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        raise WeightsError(
            f"{path}: a pickle checkpoint under another name, refused because loading it can run "
            "any code; convert it to safetensors"
        )


def _check_tensors(path: Path, header: dict[str, Any], data_bytes: int) -> dict[str, TensorInfo]:
    spans: list[tuple[int, int]] = []
    tensors: dict[str, TensorInfo] = {}
    for name, entry in header.items():
        info, span = _check_entry(path, name, entry)
        tensors[name] = info
        spans.append(span)
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise WeightsError(f"{path}: damaged safetensors header (overlapping tensors)")
        position = end
    if position != data_bytes:
        raise WeightsError(
            f"{path}: truncated or overlong, {data_bytes} bytes of values where {position} belong"
        )
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors")
    return tensors


def _check_entry(path: Path, name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        integers = all(type(n) is int for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: damaged safetensors header at '{name}'") from error
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise WeightsError(f"{path}: '{name}' has type {dtype}, which regtool does not read")
    if not integers or len(shape) > _MAX_AXES or not all(0 <= n <= _MAX_AXIS for n in shape):
        raise WeightsError(f"{path}: '{name}' has an absurd shape")
    if begin < 0 or end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise WeightsError(f"{path}: '{name}' has a shape that does not fit its bytes")
    return TensorInfo(dtype, tuple(shape)), (begin, end)


def read_config(
    path: Path, method: Method | None = None, ndim: int | None = None
) -> dict[str, Any]:
    """Read ``config.json`` and check its schema and, where given, its method and dimension.

    Raises WeightsError for a missing or damaged file, a newer schema or api, or weights made for
    another method or for images of another dimension.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise WeightsError(f"{path}: too large for a {CONFIG_FILE}")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: missing; weights are a {MODEL_FILE} with its {CONFIG_FILE} beside it"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: not a table of settings")
    _check_config(path, config, method, ndim)
    return config


def _check_config(
    path: Path, config: Mapping[str, Any], method: Method | None, ndim: int | None
) -> None:
    schema, api = config.get("schema"), config.get("api", API_VERSION)
    if schema != SCHEMA:
        raise WeightsError(
            f"{path}: schema {schema!r}, this regtool reads schema {SCHEMA}; update regtool"
            if isinstance(schema, int) and schema > SCHEMA
            else f"{path}: no regtool weights ('schema' is {schema!r}, expected {SCHEMA})"
        )
    if not isinstance(api, int) or api > API_VERSION:
        raise WeightsError(
            f"{path}: made for api {api!r} of the method contract, this regtool has {API_VERSION}"
        )
    for key, kind in (("method", str), ("ndim", int), ("network", dict), ("preparation", dict)):
        if not isinstance(config.get(key), kind):
            raise WeightsError(f"{path}: '{key}' is missing or not of type {kind.__name__}")
    for key, kind in (("name", str), ("options", dict)):
        if not isinstance(config.get(key), kind | None):
            raise WeightsError(f"{path}: '{key}' is not of type {kind.__name__}")
    if method is not None and config["method"] != method.name:
        raise WeightsError(
            f"{path}: weights of method '{config['method']}', not of '{method.name}'; "
            f"use -m {config['method']} or other weights"
        )
    if method is not None and config["ndim"] not in method.ndim:
        raise WeightsError(f"{path}: {config['ndim']}-D, which method '{method.name}' does not do")
    if ndim is not None and config["ndim"] != ndim:
        raise WeightsError(
            f"{path}: weights for {config['ndim']}-D images, these images are {ndim}-D"
        )
