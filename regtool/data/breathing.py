"""Synthetic breathing as data: inhale/exhale pairs whose true correspondence is known.

``breathing:phantom`` takes generated thoraxes, ``breathing:CT.nii.gz`` one CT of the thorax.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import numpy as np

from regtool.data.breathing_files import ALL, LANDMARKS, TRUTH, part_paths, write_breathing
from regtool.data.cases import SPLITS, Case, PairCase, Split, assign_splits, is_file_name
from regtool.data.phantom_files import MOST
from regtool.data.phantoms.lung import Chest
from regtool.data.phantoms.lung_motion import FAMILIES
from regtool.data.phantoms.lung_pair import breathe, posed
from regtool.data.phantoms.pair import Phantom, grid_of
from regtool.data.settings import Setting
from regtool.errors import UsageError

if TYPE_CHECKING:
    from regtool.data.breathing_ct import ScannedThorax

log = logging.getLogger("regtool.data")

GENERATED = "phantom"
TRAINING = ("diaphragm", "sliding")
"""Families to train on; pairs of any other are always ``test``."""
VIEW_MM = (300.0, 248.0, 336.0)
"""Field of view of generated pairs, (z, y, x)."""
LENGTHS = {"spacing": (1.0, 20.0), "margin": (0.0, 1000.0)}
"""Least and most of the settings in mm."""


def _length(key: str, default: str | int, help_: str) -> Setting:
    return Setting(default, told="{:g} to {:g} mm".format(*LENGTHS[key]), help=help_)


SETTINGS = {
    "n": Setting(8, (), 1, most=MOST, help="pairs; a fifth of them validates"),
    "seed": Setting(0, (), 0, help="of the first pair; the others follow"),
    "landmarks": Setting(LANDMARKS, (), 1, help="at most so many in a pair"),
    "spacing": _length("spacing", "", "isotropic; if not given, 3 mm or that of the CT"),
    "margin": _length("margin", 30, "around the lungs of a CT"),
    "family": Setting(
        "+".join(TRAINING),
        told=f"of {', '.join(FAMILIES)}, joined by +",
        help="motions, in turn; all but diaphragm and sliding are for tests only",
    ),
    "mark": Setting("", SPLITS, help="the split of all pairs"),
}
"""Settings of ``breathing:SOURCE?…``; ``Settings`` holds their values."""


@dataclass(frozen=True)
class Settings:
    """What follows the question mark."""

    n: int = 8
    seed: int = 0
    family: tuple[str, ...] = TRAINING
    spacing: float | None = None
    margin: float = 30.0
    landmarks: int = LANDMARKS
    mark: Split | None = None


def read_breathing(spec: str) -> list[PairCase]:
    """Pairs made on the spot: ``phantom?n=8&seed=0&family=diaphragm+sliding&spacing=4``.

    Before the question mark stands ``phantom`` or the path of a CT of the thorax in HU. Pair i has
    the seed ``seed + i`` (anatomy or pose, motion, noise) and the families in turn. ``spacing`` in
    mm, isotropic (default 3, or that of the CT); a CT is cut to its lungs and ``margin`` mm.
    ``landmarks`` sets their number. A fifth of the pairs is ``val``, unless ``mark`` names a split
    for all; families other than diaphragm and sliding are ``test`` whatever it says. The files live
    in a temporary folder that goes when the process ends. Raises UsageError for an unknown family
    or setting, InputError for a CT that cannot be used.
    """
    source, settings = parse(spec)
    folder = Path(tempfile.mkdtemp(prefix="regtool-breathing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    splits = _splits(source, settings)
    pairs = []
    for number, (name, phantom) in enumerate(generate(source, settings)):
        if number == 0 and settings.n > 1:
            log.info("making %d breathing pairs", settings.n)
        paths = part_paths(folder, ALL, f"{name}_", ".nii")
        write_breathing(phantom, paths, settings.landmarks)
        fixed, moving = (
            Case(
                paths[side], paths[f"{side}_labels"], points=paths[f"{side}_points"], modality="ct"
            )
            for side in ("fixed", "moving")
        )
        pairs.append(PairCase(name, fixed, moving, splits[name], name, paths[TRUTH]))
    return pairs


def generate(source: str, settings: Settings) -> Iterator[tuple[str, Phantom]]:
    """Name and images of each pair in turn. Raises InputError for a CT that cannot be used."""
    thorax = None
    if source != GENERATED:
        from regtool.data.breathing_ct import read_thorax  # SimpleITK is slow to load

        thorax = read_thorax(source)
    for number, name in enumerate(_names(source, settings)):
        seed = settings.seed + number
        family = settings.family[number % len(settings.family)]
        yield name, make_breathing(thorax, family, seed, settings.spacing, settings.margin)


def make_breathing(
    thorax: ScannedThorax | None,
    family: str,
    seed: int,
    spacing: float | None = None,
    margin: float = 30.0,
) -> Phantom:
    """One pair of a scanned thorax, or of one generated from ``seed``.

    Generated pairs have the expiration or the inspiration as the fixed image; a CT counts as the
    expiration and is the moving image, since it may end right below the lungs, which must then not
    move out of it.
    """
    rng = np.random.default_rng([seed, 0x4272, list(FAMILIES).index(family)])
    if thorax is not None:
        grid = thorax.grid_around(margin, spacing)
        return breathe(thorax, family, rng, grid, thorax.middle, False, posed(rng, 0.06, 4.0))
    step = spacing or 3.0
    shape = tuple(max(8, round(v / step)) for v in VIEW_MM)
    middle = (0.0, float(rng.uniform(-180, -150)), -150.0)
    grid = grid_of(shape, (step,) * 3, np.eye(3), middle)
    chest = Chest(np.random.default_rng([seed, 0x4C]))
    down = bool(rng.random() < 0.5)
    return breathe(chest, family, rng, grid, middle, down, posed(rng, 0.12, 4.0))


def parse(spec: str) -> tuple[str, Settings]:
    """Source and settings of a specification. Raises UsageError."""
    source, _, query = spec.partition("?")
    values: dict[str, object] = {}
    for key, text in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        values[key] = _value(f"breathing:{source or GENERATED}", key, text)
    return source or GENERATED, Settings(**values)  # type: ignore[arg-type]


def _value(where: str, key: str, text: str) -> object:
    if key not in SETTINGS:
        raise UsageError(f"{where}: unknown setting {key!r}; use {', '.join(SETTINGS)}")
    setting = SETTINGS[key]
    if setting.least is not None:
        number = setting.read(text)
        if number is None:
            raise UsageError(f"{where}: {key}={text[:60]}: {setting.allowed} is needed")
        return number
    if key in LENGTHS:
        low, high = LENGTHS[key]
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= high:
            raise UsageError(f"{where}: {key}={text}: {setting.allowed} are needed")
        return value
    if key == "family":
        names = tuple(text.split("+"))
        unknown = [name for name in names if name not in FAMILIES]
        if unknown:
            raise UsageError(f"{where}: family={text}: choose {setting.allowed}")
        return names
    if text not in SPLITS:
        raise UsageError(f"{where}: mark={text}: choose one of {setting.allowed}")
    return text


def _names(source: str, settings: Settings) -> list[str]:
    stem = Path(source).name.split(".")[0]
    stem = stem if is_file_name(stem) else "ct"
    return [
        f"breathing_{stem}_{settings.family[i % len(settings.family)]}_{settings.seed + i:04d}"
        for i in range(settings.n)
    ]


def _splits(source: str, settings: Settings) -> dict[str, Split]:
    names = _names(source, settings)
    splits = assign_splits(names, val=0.2)
    if settings.mark is not None:
        splits = dict.fromkeys(names, settings.mark)
    for number, name in enumerate(names):
        if settings.family[number % len(settings.family)] not in TRAINING:
            splits[name] = "test"
    return splits
