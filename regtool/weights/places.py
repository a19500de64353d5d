"""Where weights may lie on this machine: a given path, REGTOOL_WEIGHTS_DIR, plugin, Hub cache."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regtool.errors import PluginError, WeightsError
from regtool.paths import expanded, is_dir, is_file
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import hub, shipped
from regtool.weights.files import CONFIG_FILE, MODEL_FILE, refuse_pickle

WEIGHTS_DIR_VARIABLE = "REGTOOL_WEIGHTS_DIR"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Source = Literal["none", "path", "directory", "shipped", "cache", "hub"]


@dataclass(frozen=True)
class Found:
    """Candidate files, not yet checked."""

    source: Source
    config: Path
    model: Path
    hub: str | None = None
    revision: str | None = None


def local(method: Method, ref: WeightsRef, cache_dir: Path | None) -> Found | None:
    """First place on this machine that holds named weights; no request is made."""
    found = in_directory(ref.name)
    if found is not None:
        return found
    files = shipped.find(method, ref.name)
    if files is not None:
        return Found("shipped", *files)
    if ref.hub is None:
        return None
    repository, revision = pin(method, ref)
    cached = hub.cached(repository, revision, cache_dir)
    if cached is None:
        return None
    return Found("cache", cached.config, cached.model, repository, revision)


def pin(method: Method, ref: WeightsRef) -> tuple[str, str]:
    """Repository and full commit of published weights; PluginError if the commit is not full."""
    if ref.hub is None or not hub.FULL_COMMIT.fullmatch(ref.revision or ""):
        raise PluginError(
            f"method '{method.name}' does not pin its weights '{ref.name}' to a full commit of "
            f"40 digits (revision {ref.revision!r})"
        )
    return ref.hub, str(ref.revision)


def in_directory(name: str) -> Found | None:
    """Files in ``REGTOOL_WEIGHTS_DIR/<name>/``; WeightsError for a folder without weights."""
    top = os.environ.get(WEIGHTS_DIR_VARIABLE)
    if not top or not _NAME.fullmatch(name):
        return None
    folder = expanded(top) / name
    if not is_dir(folder):
        return None
    return _in_folder(folder, "directory")


def _in_folder(folder: Path, source: Source) -> Found:
    model = folder / MODEL_FILE
    if not is_file(model):
        for other in sorted(folder.iterdir()):
            refuse_pickle(other)
        raise WeightsError(f"{folder}: holds no {MODEL_FILE}")
    return Found(source, folder / CONFIG_FILE, model)


def at_path(method: Method, spec: str) -> Found:
    """Files at a path from the user; WeightsError with a suggestion if there are none."""
    path = expanded(spec)
    if is_dir(path):
        return _in_folder(path, "path")
    refuse_pickle(path)
    if is_file(path):
        return Found("path", path.with_name(CONFIG_FILE), path)
    if path.suffix == ".safetensors" or os.sep in spec:
        raise WeightsError(
            f"{spec}: no such file or folder (for a repository on the Hub write hub:{spec})"
            if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", spec)
            else f"{spec}: no such file or folder"
        )
    names = [ref.name for ref in method.weights]
    if not names:
        raise WeightsError(f"method '{method.name}' has no named weights, and '{spec}' is no path")
    close = difflib.get_close_matches(spec, names, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"it has: {', '.join(names)}"
    raise WeightsError(f"method '{method.name}' has no weights '{spec}'; {hint}")


def weights_dir() -> str:
    """REGTOOL_WEIGHTS_DIR and its value, in words for a message."""
    top = os.environ.get(WEIGHTS_DIR_VARIABLE)
    return f"{WEIGHTS_DIR_VARIABLE} ({top})" if top else f"a folder named by {WEIGHTS_DIR_VARIABLE}"
