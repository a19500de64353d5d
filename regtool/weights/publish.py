"""Publish a weights folder on the Hugging Face Hub and pin it in the plugin's description."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regtool.errors import OutputError, UsageError, WeightsError
from regtool.plugins.description import Method
from regtool.weights import hub, shipped
from regtool.weights.files import CARD_FILE, CONFIG_FILE, MODEL_FILE, file_sha256

_FILES = (CARD_FILE, CONFIG_FILE, MODEL_FILE)
_FIELDS = ("name", "ndim", "anatomy", "modality", "licence", "sha256", "hub", "revision")


def check_repository(repository: str) -> None:
    """UsageError unless it is ``org/repo``; WeightsError if requests are switched off."""
    if not hub.is_repository(repository):
        raise UsageError(
            f"{repository}: no repository on the Hub; write ORG/REPO, as in lab/hearts"
        )
    if hub.is_offline():
        raise WeightsError(
            f"{repository}: cannot publish, requests are switched off; unset HF_HUB_OFFLINE"
        )


def check_folder(folder: Path) -> None:
    """WeightsError unless the folder holds everything that is published."""
    for name in _FILES:
        if not (folder / name).is_file():
            raise WeightsError(f"{folder / name}: missing; it is published with the weights")


def push(
    folder: Path, repository: str, *, private: bool = False, message: str | None = None
) -> dict[str, str]:
    """Upload README.md, config.json and model.safetensors in one commit; return their pin.

    The pin is ``{"hub", "revision", "sha256"}``, the revision being the new commit. The repository
    is made if it does not exist. Raises WeightsError for a missing file or a refused upload,
    UsageError for a malformed repository.
    """
    check_repository(repository)
    check_folder(folder)
    digest = file_sha256(folder / MODEL_FILE)
    try:
        hub.require_endpoint()
    except hub.UnreachableError as error:
        raise WeightsError(
            f"{repository}: cannot publish, {error}; try again, or push from a machine with "
            f"internet: copy {folder} there"
        ) from error
    commit = hub.explained(
        lambda: _commit(folder, repository, private, message or f"Weights {folder.name}"),
        repository,
    )
    hub.check_published(repository, commit, digest)
    return {"hub": repository, "revision": commit, "sha256": digest}


def _commit(folder: Path, repository: str, private: bool, message: str) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="regtool")
    api.create_repo(repository, private=private or None, exist_ok=True)
    files: list[Any] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in _FILES
    ]
    return str(api.create_commit(repository, files, commit_message=message).oid)


def write_pin(method: Method, name: str, pin: Mapping[str, str]) -> Path | None:
    """Put a pin into the plugin's ``WeightsRef(name=…)``, if the plugin is in a source checkout.

    Returns the changed file, or None if there is no such call to change. OutputError if the file
    cannot be written.
    """
    package = shipped.checkout_package(method)
    for path in sorted(package.rglob("*.py")) if package is not None else ():
        text = path.read_text(encoding="utf-8")
        pinned = with_pin(text, name, pin) if "WeightsRef" in text else None
        if pinned is None:
            continue
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(pinned, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
        return path
    return None


def with_pin(source: str, name: str, pin: Mapping[str, str]) -> str | None:
    """Python source with the values of ``pin`` in the call ``WeightsRef(name=…)``, else None."""
    data = source.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("WeightsRef"):
            continue
        values = dict(zip(_FIELDS, call.args, strict=False))
        values |= {word.arg: word.value for word in call.keywords if word.arg}
        given = values.get("name")
        if isinstance(given, ast.Constant) and given.value == name:
            break
    else:
        return None

    def span(node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return (
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
        )

    last = max(span(value)[1] for value in values.values())
    edits = []
    for key, new in pin.items():
        if key in values:
            edits.append((*span(values[key]), f'"{new}"'))
        else:
            edits.append((last, last, f', {key}="{new}"'))
    for begin, end, new in sorted(edits, reverse=True):
        data = data[:begin] + new.encode() + data[end:]
    return data.decode()
