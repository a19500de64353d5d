"""A finished registration: its record, its files, and what belongs to its images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.errors import GeometryError, InputError
from regtool.imaging.reading import read_image
from regtool.imaging.transforms import Field, Matrix, Transform, read_affine, read_field
from regtool.imaging.volume import Volume
from regtool.paths import expanded, is_file
from regtool.record import (
    AFFINE,
    FIELD,
    INVERSE,
    WARPED,
    check_unchanged,
    input_path,
    output_path,
    read_record,
)
from regtool.spatial.grid import Grid

FILES = ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_points", "moving_points")
"""What a record names, and a user may name instead."""


class Registered:
    """The files of a record, each read when it is first asked for.

    Opening checks that every output is there and has the recorded hash. ``files`` are used instead
    of those that the record names. Raises InputError.
    """

    def __init__(self, path: str | Path, files: Mapping[str, Path] | None = None) -> None:
        self.path = expanded(path)
        self.record: dict[str, Any] = read_record(self.path)
        self._files = dict(files or {})
        outputs = self.record.get("outputs")
        for role in outputs if isinstance(outputs, Mapping) else (WARPED, FIELD, AFFINE):
            file = output_path(self.path, self.record, role)
            digest = self.record["outputs"][role].get("sha256")
            check_unchanged(file, str(digest), self.path)  # without one, nobody can tell

    @cached_property
    def field(self) -> Field:
        """The displacement field (*S, ndim), LPS mm, and its grid, which is the fixed image's."""
        return read_field(output_path(self.path, self.record, FIELD))

    @cached_property
    def affine(self) -> Matrix:
        """The affine that follows the field."""
        return read_affine(output_path(self.path, self.record, AFFINE))

    @property
    def chain(self) -> list[Transform]:
        """From fixed points to moving points, in the order of ``resample``."""
        return [self.field, self.affine]

    @property
    def grid(self) -> Grid:
        """The fixed image's grid."""
        return self.field[1]

    @cached_property
    def inverse(self) -> NDArray[np.float32] | None:
        """The inverse field on the same grid, if the record lists one."""
        if INVERSE not in self.record["outputs"]:
            return None
        return read_field(output_path(self.path, self.record, INVERSE))[0]

    @cached_property
    def fixed(self) -> Volume:
        """The fixed image."""
        return self._image("fixed")

    @cached_property
    def moving(self) -> Volume:
        """The moving image."""
        return self._image("moving")

    @cached_property
    def warped(self) -> NDArray[Any]:
        """The warped image as written."""
        return read_image(output_path(self.path, self.record, WARPED)).array

    def section(self, name: str) -> Mapping[str, Any]:
        """A part of the record such as ``seconds``; empty where the record has none."""
        found = self.record.get(name)
        return found if isinstance(found, Mapping) else {}

    def output(self, role: str) -> Path | None:
        """The file of a role such as ``Trajectory.nii.gz``, if the record lists it."""
        return output_path(self.path, self.record, role) if role in self.record["outputs"] else None

    def companion(self, name: str) -> Path | None:
        """A label map or landmark file: the user's, else the record's; None if neither has one.

        Raises InputError when it is not there.
        """
        return self._find(name)

    def facts(self) -> dict[str, Any]:
        """What identifies the registration, ready for JSON."""
        facts = {
            "record": str(self.path),
            "method": self.section("method").get("name"),
            "weights": self.section("weights").get("name"),
        }
        for role in ("fixed", "moving"):
            image = self.section(role)
            facts |= {role: image.get("path"), f"{role}_sha256": image.get("sha256")}
        return facts

    def _image(self, role: str) -> Volume:
        file, facts = self._find(role), self.section(role)
        if file is None:
            raise InputError(f"{self.path}: names no {role} file; give --{role}")
        if role not in self._files:
            check_unchanged(file, facts.get("sha256"), self.path)
        image = read_image(file)
        if role == "fixed" and not image.grid.same_as(self.grid):
            raise GeometryError(f"{file}: not on the grid of the fixed image of {self.path}")
        return image

    def _find(self, name: str) -> Path | None:
        """The user's file, or the record's; None if neither names one."""
        option = f"--{name.replace('_', '-')}"
        if name not in self._files:
            remedy = f"give {option}, or choose --metrics that do without"
            return input_path(self.path, self.record, name, remedy)
        file = expanded(self._files[name])
        if not is_file(file):
            raise InputError(f"{file}: no such file ({option})")
        return file
