"""Weights that came with a plugin: inside its package, or beside it in a source checkout."""

from __future__ import annotations

import atexit
import importlib
import importlib.resources
from contextlib import ExitStack
from pathlib import Path

from regtool.plugins.description import Method
from regtool.weights.files import CONFIG_FILE, MODEL_FILE

_extracted = ExitStack()
atexit.register(_extracted.close)


def plugin_package(method: Method) -> str:
    """Name of the package that holds a method's model, such as ``regtool_voxelmorph``."""
    module = method.model.partition(":")[0]
    return module.rpartition(".")[0] or module


def find(method: Method, name: str) -> tuple[Path, Path] | None:
    """config.json and model.safetensors of the weights ``name`` shipped with ``method``.

    Looks for ``weights/<name>/`` in the plugin's package, and, where the package lies in a source
    checkout (a folder with pyproject.toml, the package in it or one folder deeper), in the
    checkout's own ``weights/<name>/``. Returns None if there is no model file.
    """
    try:
        package = importlib.resources.files(plugin_package(method))
    except (ImportError, TypeError, ValueError):
        return None
    inside = package.joinpath("weights", name)
    if inside.joinpath(MODEL_FILE).is_file():
        # as_file costs nothing for plain files and unpacks those of a zipped package
        config, model = (
            _extracted.enter_context(importlib.resources.as_file(inside.joinpath(n)))
            for n in (CONFIG_FILE, MODEL_FILE)
        )
        return config, model
    return _in_checkout(package, name) if isinstance(package, Path) else None


def checkout_package(method: Method) -> Path | None:
    """Folder of a method's package if that lies in a source checkout, else None."""
    try:
        package = importlib.resources.files(plugin_package(method))
    except (ImportError, TypeError, ValueError):
        return None
    if isinstance(package, Path) and any(_checkouts(package)):
        return package.resolve()
    return None


def _checkouts(package: Path) -> list[Path]:
    return [top for top in package.resolve().parents[:2] if (top / "pyproject.toml").is_file()]


def _in_checkout(package: Path, name: str) -> tuple[Path, Path] | None:
    for top in _checkouts(package):
        folder = top / "weights" / name
        if (folder / MODEL_FILE).is_file():
            return folder / CONFIG_FILE, folder / MODEL_FILE
    return None
