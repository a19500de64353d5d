"""Where weights may lie on this machine: a given path, REGTOOL_WEIGHTS_DIR, plugin, Hub cache."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from regtool.errors import PluginError, WeightsError
from regtool.paths import expanded, is_dir, is_file
from regtool.plugins import discovery
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import hub, shipped
from regtool.weights.files import CONFIG_FILE, MODEL_FILE, refuse_pickle

WEIGHTS_DIR_VARIABLE = "REGTOOL_WEIGHTS_DIR"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Source = Literal["none", "path", "directory", "shipped", "cache", "hub"]


@dataclass(frozen=True)
class Found:
    """Candidate files, not yet checked; ``name`` is that of a folder in REGTOOL_WEIGHTS_DIR."""

    source: Source
    config: Path
    model: Path
    hub: str | None = None
    revision: str | None = None
    name: str | None = None


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
    return replace(in_folder(folder, "directory"), name=name)


def in_folder(folder: Path, source: Source) -> Found:
    """Files in a folder, or in the only weights folder of a training run's.

    Raises WeightsError where there are none, or several.
    """
    model = folder / MODEL_FILE
    if not is_file(model):
        exported = _exported(folder)
        if len(exported) > 1:
            raise WeightsError(
                f"{folder}: holds several weights; give one of {', '.join(map(str, exported))}"
            )
        if exported:
            return Found(source, exported[0] / CONFIG_FILE, exported[0] / MODEL_FILE)
        for other in sorted(folder.iterdir()):
            refuse_pickle(other)
        raise WeightsError(f"{folder}: holds no {MODEL_FILE}")
    return Found(source, folder / CONFIG_FILE, model)


def _exported(folder: Path) -> list[Path]:
    """What training left in ``folder``: a run folder, or the ``weights`` in it."""
    inner = folder if folder.name == "weights" else folder / "weights"
    if not is_dir(inner):
        return []
    return sorted(child for child in inner.iterdir() if is_file(child / MODEL_FILE))


def at_path(method: Method, spec: str) -> Found:
    """Files at a path from the user; WeightsError with a suggestion if there are none."""
    path = expanded(spec)
    if is_dir(path):
        return in_folder(path, "path")
    refuse_pickle(path)
    if is_file(path):
        return Found("path", path.with_name(CONFIG_FILE), path)
    if path.suffix == ".safetensors" or os.sep in spec:
        raise WeightsError(
            f"{spec}: no such file or folder (for a repository on the Hub write hub:{spec})"
            if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", spec)
            else f"{spec}: no such file or folder"
        )
    raise WeightsError(_unknown(method, spec))


def _unknown(method: Method, spec: str) -> str:
    """What to say of a name that is none of the method's: whose it is, or what is near."""
    names = [ref.name for ref in method.weights]
    owners = {ref.name: other.name for other in discovery.load_all()[0] for ref in other.weights}
    owners |= dict.fromkeys(names, method.name)
    if spec in owners:
        return f"weights '{spec}' belong to method '{owners[spec]}': use -m {owners[spec]}"
    own = [folder.name for folder in own_folders() if folder.name not in owners]
    close = difflib.get_close_matches(spec, [*own, *owners], 1)
    if close:
        other = "" if close[0] in (*own, *names) else f" (-m {owners[close[0]]})"
        hint = f"did you mean '{close[0]}'{other}?"
    else:
        mine = f"{', '.join(own)} in {WEIGHTS_DIR_VARIABLE}" if own else ""
        hint = "; ".join(filter(None, [f"it has: {', '.join(names)}" if names else "", mine]))
    lacking = f"weights '{spec}'" if names else "named weights"
    return f"method '{method.name}' has no {lacking}, and '{spec}' is no path{in_vain()}" + (
        f"; {hint}" if hint else ""
    )


def in_vain() -> str:
    """For the end of a message: that REGTOOL_WEIGHTS_DIR names no folder of folders, if so."""
    fault, advice = _fault()
    return f"; {weights_dir()} is passed over{advice}" if fault else ""


def _fault() -> tuple[str, str]:
    """Why REGTOOL_WEIGHTS_DIR leads to no weights, and what to do; nothing where it may."""
    top = os.environ.get(WEIGHTS_DIR_VARIABLE)
    if not top:
        return "", ""
    folder = expanded(top)
    if not is_dir(folder):
        return "which is no folder", ""
    if is_file(folder / MODEL_FILE) and not own_folders():
        return "which is itself a folder of weights", ": give its parent"
    if folder.name != "weights" and _exported(folder) and not own_folders():
        return "which is the folder of a training run", f": give {folder / 'weights'}"
    return "", ""


def own_folders() -> list[Path]:
    """The folders in REGTOOL_WEIGHTS_DIR that hold weights, or mean to."""
    top = os.environ.get(WEIGHTS_DIR_VARIABLE)
    if not top or not is_dir(expanded(top)):
        return []
    return [
        folder
        for folder in sorted(expanded(top).iterdir())
        if _NAME.fullmatch(folder.name)
        and (is_file(folder / MODEL_FILE) or is_file(folder / CONFIG_FILE))
    ]


def weights_dir() -> str:
    """REGTOOL_WEIGHTS_DIR and its value, in words for a message."""
    top = os.environ.get(WEIGHTS_DIR_VARIABLE)
    if not top:
        return f"a folder named by {WEIGHTS_DIR_VARIABLE}"
    fault, _ = _fault()
    return f"{WEIGHTS_DIR_VARIABLE} ({top}{', ' if fault else ''}{fault})"
