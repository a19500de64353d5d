"""Fields of training pairs from the files that ``regtool register`` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regtool.data.cases import PairCase
from regtool.engine.training.dataset import prepare_case
from regtool.errors import InputError
from regtool.imaging.transforms import Transform, read_affine, read_field
from regtool.paths import resolved
from regtool.prepare.chain import chain_displacement
from regtool.prepare.pair import Prepared
from regtool.prepare.preparation import Preparation
from regtool.record import AFFINE, FIELD, SUFFIX, output_path, read_record
from regtool.spatial.invert import invert


@dataclass(frozen=True)
class RecordFields:
    """Fields from a folder of records, as a cohort leaves them (``register --pairs -o FOLDER``).

    A record belongs to a pair by its image files, or by its name, ``PAIR_regtool.json``. The other
    direction comes from the record of the exchanged images, or, without one, from inverting.
    """

    folder: Path
    cases: Sequence[PairCase]
    preparation: Preparation
    slices: int | None
    seed: int

    @cached_property
    def records(self) -> dict[tuple[str, str], Path]:
        """Records by the paths of their fixed and moving image."""
        found = {}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            record = read_record(path)
            key = tuple(_path(record.get(side)) for side in ("fixed", "moving"))
            found[key[0], key[1]] = path
        return found

    @property
    def facts(self) -> Any:
        files = sorted(self.folder.iterdir())
        stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return [str(self.folder.resolve()), stamps]

    def both(self, number: int) -> tuple[Tensor, Tensor]:
        """The fields of pair ``number`` on its prepared grid. Raises InputError without a record.

        The prepared moving image was sampled through the initial transform A; a field then lies
        between the two prepared images: with the record's transform T it moves x to A^-1 T x, and
        the other direction moves x to T' A x.
        """
        case = self.cases[number]
        forward, back = self._record(case, False), self._record(case, True)
        if forward is None:
            raise InputError(
                f"{self.folder}: no record of {case.fixed.image} and {case.moving.image}, nor "
                f"{case.name}_{SUFFIX}; register the pair, or name another source of fields"
            )
        prepared = prepare_case(case, self.preparation, self.slices, self.seed)
        return _between(prepared, _chain(forward), None if back is None else _chain(back))

    def _record(self, case: PairCase, swapped: bool) -> Path | None:
        sides = (case.moving, case.fixed) if swapped else (case.fixed, case.moving)
        whole = case.fixed.frame is None and case.moving.frame is None
        if whole and (found := self.records.get((_same(sides[0].image), _same(sides[1].image)))):
            return found
        named = self.folder / f"{case.name}_{SUFFIX}"
        return named if not swapped and named.is_file() else None


@dataclass(frozen=True)
class KnownFields:
    """The fields that synthetic pairs were made with (``PairCase.field``)."""

    cases: Sequence[PairCase]
    preparation: Preparation
    slices: int | None
    seed: int

    @property
    def facts(self) -> Any:
        files = [self._file(case).stat() for case in self.cases]
        return ["known", [(f.st_size, f.st_mtime_ns) for f in files]]

    def both(self, number: int) -> tuple[Tensor, Tensor]:
        """The fields of pair ``number`` on its prepared grid; the second by inverting.

        Raises InputError for a pair whose field is not known.
        """
        case = self.cases[number]
        field = read_field(self._file(case))
        prepared = prepare_case(case, self.preparation, self.slices, self.seed)
        return _between(prepared, [field], None)

    @staticmethod
    def _file(case: PairCase) -> Path:
        if case.field is None or not case.field.is_file():
            raise InputError(
                f"fields=known: that of the pair {case.name} is not known; only synthetic pairs "
                "have one, such as those of breathing:"
            )
        return case.field


def _between(
    prepared: Prepared, forward: Sequence[Transform], back: Sequence[Transform] | None
) -> tuple[Tensor, Tensor]:
    """Both displacements between two prepared images, from chains between the files' points."""
    start = prepared.initial
    back_again = np.asarray(np.linalg.inv(start), dtype=np.float64)
    u = chain_displacement(prepared.grid, [*forward, back_again])
    if back is not None:
        v = chain_displacement(prepared.grid, [start, *back])
    else:
        v = invert(u[None])[0][0]
    return _items(u, prepared), _items(v, prepared)


def _path(image: Any) -> str:
    path = image.get("path") if isinstance(image, Mapping) else None
    return _same(path) if isinstance(path, str) else ""


def _same(path: str | Path) -> str:
    return str(resolved(path))


def _chain(record_path: Path) -> list[Transform]:
    record = read_record(record_path)
    field = read_field(output_path(record_path, record, FIELD))
    return [field, read_affine(output_path(record_path, record, AFFINE))]


def _items(u: Tensor, prepared: Prepared) -> Tensor:
    """(ndim, *grid) as one displacement for each item, (B, ndim, *S)."""
    return prepared.unstack(torch.as_tensor(u))
