"""Phantoms as files: for the demo, and as data to train on."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

from regtool.data.cases import Case, PairCase, assign_splits
from regtool.data.phantoms import KINDS, Phantom, make
from regtool.data.settings import Setting
from regtool.errors import UsageError

PARTS = ("fixed", "moving", "fixed_labels", "moving_labels")
MOST = 100_000
"""Pairs made on the spot."""
SETTINGS = {
    "n": Setting(8, (), 1, most=MOST, help="pairs; a fifth of them validates"),
    "seed": Setting(0, (), 0, help="of the first pair; the others follow"),
    "size": Setting("", (), 16, help="voxels along every axis (heart3d keeps its 12 slices)"),
}
"""Settings of ``phantom:KIND?…``."""


def write_phantom(phantom: Phantom, paths: Mapping[str, Path], overwrite: bool = False) -> None:
    """Write the four images of a phantom; ``paths`` maps each of PARTS to a file.

    All appear or none. Raises OutputError for existing files (without ``overwrite``) or a folder
    that cannot be written.
    """
    from regtool.imaging.writing import Outputs

    with Outputs({part: paths[part] for part in PARTS}, overwrite=overwrite) as outputs:
        for part in PARTS:
            outputs.image(part, getattr(phantom, part), phantom.grid)


def check_free(paths: Mapping[str, Path], overwrite: bool) -> None:
    """Raise OutputError now rather than after the work if ``write_phantom`` would."""
    from regtool.imaging.writing import Outputs

    Outputs(dict(paths), overwrite=overwrite)


def read_phantoms(spec: str) -> list[PairCase]:
    """Pairs made on the spot: ``KIND?n=8&seed=0&size=128``, all parts optional.

    KIND is heart2d (default), heart3d, brain or lung; pair i has the seed ``seed + i``; a fifth is
    ``val``. The files live in a temporary folder that goes when the process ends. Raises
    UsageError for an unknown kind or setting.
    """
    kind, _, query = spec.partition("?")
    kind = kind or "heart2d"
    if kind not in KINDS:
        raise UsageError(f"phantom:{kind}: unknown kind; choose one of {', '.join(KINDS)}")
    settings = _settings(kind, query)
    count, seed, size = settings["n"], settings["seed"], settings.get("size")
    folder = Path(tempfile.mkdtemp(prefix="regtool-phantoms-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = [f"{kind}_{seed + i:04d}" for i in range(count)]
    splits = assign_splits(names, val=0.2)
    pairs = []
    for i, name in enumerate(names):
        phantom = make(kind, seed + i, size)
        paths = {part: folder / f"{name}_{part}.nii" for part in PARTS}
        write_phantom(phantom, paths)
        fixed = Case(paths["fixed"], paths["fixed_labels"], modality=phantom.modality)
        moving = Case(paths["moving"], paths["moving_labels"], modality=phantom.modality)
        pairs.append(PairCase(name, fixed, moving, splits[name], name))
    return pairs


def _settings(kind: str, query: str) -> dict[str, int]:
    settings = {key: s.default for key, s in SETTINGS.items() if isinstance(s.default, int)}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in SETTINGS:
            raise UsageError(f"phantom:{kind}: unknown setting {key!r}; use {', '.join(SETTINGS)}")
        number = SETTINGS[key].read(value)
        if not isinstance(number, int):
            needed = SETTINGS[key].allowed
            raise UsageError(f"phantom:{kind}: {key}={value[:60]}: {needed} is needed")
        settings[key] = number
    return settings
