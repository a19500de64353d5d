"""All weights as a table: those that methods describe, and the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regtool.errors import RegtoolError
from regtool.plugins import discovery
from regtool.plugins.description import Method, WeightsRef
from regtool.weights.files import CONFIG_FILE, file_sha256, read_config
from regtool.weights.places import in_folder
from regtool.weights.resolve import locate
from regtool.weights.stock import own


def listing(only: str | None = None) -> tuple[list[dict[str, Any]], list[discovery.Failure]]:
    """Every set of weights as plain data, with where it lies on this machine (unchecked).

    After those that methods describe come the user's own in REGTOOL_WEIGHTS_DIR.
    """
    if only is None:
        methods, failures = discovery.load_all()
    else:
        methods, failures = [discovery.load(only)], []
    rows = [_row(method, ref) for method in methods for ref in method.weights]
    more = [_own_row(folder) for folder in own().values()]
    return rows + [row for row in more if only in (None, row["method"])], failures


def _own_row(folder: Path) -> dict[str, Any]:
    """The same for a folder in REGTOOL_WEIGHTS_DIR that no method describes."""
    config: dict[str, Any] = {}
    problem = None
    try:
        config = read_config(folder / CONFIG_FILE)
        in_folder(folder, "directory")
    except RegtoolError as error:
        problem = str(error)
    return {
        "name": folder.name, **_told(config), "hub": None, "revision": None, "sha256": None,
        "source": None if problem else "directory", "path": str(folder), "problem": problem,
        "other_than_pinned": False,
    }  # fmt: skip


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says of its weights."""
    words = {
        key: str(config.get(key) or "-") for key in ("method", "anatomy", "modality", "licence")
    }
    return {"ndim": config.get("ndim"), **words}


def _row(method: Method, ref: WeightsRef) -> dict[str, Any]:
    source, path, problem = None, None, None
    told: dict[str, Any] = {
        "method": method.name, "ndim": ref.ndim,
        "anatomy": ref.anatomy, "modality": ref.modality, "licence": ref.licence,
    }  # fmt: skip
    other = False
    try:
        place = locate(method, ref)
        if place is not None:
            source, path = place[0], str(place[1].parent)
        if place is not None and source == "directory" and ref.sha256:
            # by the user's hand, so its licence is not that of the weights whose name it has
            other = file_sha256(place[1]) != ref.sha256.lower()
        if place is not None and other:
            told = _told(read_config(place[1].with_name(CONFIG_FILE)))
    except RegtoolError as error:
        problem = str(error)
    return {
        "name": ref.name,
        **told,
        "hub": ref.hub,
        "revision": ref.revision,
        "sha256": ref.sha256 or None,
        "source": source,
        "path": path,
        "problem": problem,
        "other_than_pinned": other,
    }
