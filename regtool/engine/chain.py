"""Chains of transforms as users name them: files, ``[affine.mat,1]``, records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from regtool.engine.results import invert_field, inverted
from regtool.errors import InputError, UsageError
from regtool.imaging.nifti import check_grid, check_memory
from regtool.imaging.transforms import Transform, read_affine, read_field, read_transforms
from regtool.paths import expanded, is_file
from regtool.record import AFFINE, FIELD, INVERSE, SUFFIX, is_record, read_record, recorded_output
from regtool.spatial.grid import Grid

INEXACT = 0.1
"""Voxels; an inverse that misses by more is worth a warning."""


@dataclass(frozen=True)
class Chain:
    """Transforms in ``resample`` order, and the grid on which they make sense, if known.

    ``notes`` say how it was made, ``warnings`` what may be wrong with it.
    """

    transforms: list[Transform]
    reference: Grid | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """One ``-t``: a file, and whether ``[file,1]`` asks for its inverse."""

    path: str
    flipped: bool = False


def parse(specs: Sequence[str]) -> list[Link]:
    """The files that repeated ``-t`` name; nothing is read.

    ``[file,1]`` means inverted, ``[file,0]`` and ``file`` as it is. Raises UsageError.
    """
    if not specs:
        raise UsageError("no transform; give at least one -t (a record stands for a whole chain)")
    return [_parsed(spec) for spec in specs]


def _parsed(spec: str) -> Link:
    if not (spec.startswith("[") and spec.endswith("]")):
        return Link(spec)
    path, _, flag = spec[1:-1].rpartition(",")
    path, flag = path.strip(), flag.strip()
    if not path or flag not in ("0", "1"):
        raise UsageError(f"-t {spec}: write [affine.mat,1] to invert a linear transform")
    if flag == "1" and is_record(path):
        raise UsageError(
            f"-t {spec}: only linear transforms are inverted so; for the way back of a record use "
            f"-t {path} --inverse"
        )
    return Link(path, flag == "1")


def read_chain(specs: Sequence[str], inverse: bool = False) -> Chain:
    """Read the transforms of repeated ``-t``, in the order of antsApplyTransforms.

    The one given last is applied to the moving image first. ``[affine.mat,1]`` is the inverse of a
    linear transform, a record stands for its whole chain. ``inverse`` turns everything round; a
    record's own inverse field is used where there is one, others are inverted numerically.
    Raises UsageError, InputError, GeometryError.
    """
    named = parse(specs)
    _refuse_lone_warp(specs)
    links = [_read(link, inverse) for link in named]
    if inverse:
        links.reverse()
    transforms = [t for link in links for t in link.transforms]
    reference = links[0].reference if links else None
    return Chain(
        transforms,
        reference,
        tuple(note for link in links for note in link.notes),
        tuple(warning for link in links for warning in link.warnings),
    )


def _read(link: Link, inverse: bool) -> Chain:
    path = link.path
    if is_record(path):
        return _read_record(path, inverse)
    transforms = read_transforms(path)
    if link.flipped and any(isinstance(t, tuple) for t in transforms):
        raise UsageError(f"-t [{path},1]: only linear transforms can be inverted so; use --inverse")
    reference = next((t[1] for t in transforms if isinstance(t, tuple)), None)
    if link.flipped != inverse:
        return _inverted(transforms, path)
    return Chain(transforms, None if inverse else reference)


def _inverted(transforms: list[Transform], path: str) -> Chain:
    turned: list[Transform] = []
    notes: list[str] = []
    warnings: list[str] = []
    for transform in reversed(transforms):
        if isinstance(transform, tuple):
            field, numbers = invert_field(*transform)
            residual = numbers["residual_voxels_max"]
            text = f"{path}: inverted numerically, residual {residual:.3g} voxels at most"
            if residual > INEXACT:
                warnings.append(f"{text}; where it folds no inverse exists (see regtool jacobian)")
            else:
                notes.append(text)
            turned.append((field, transform[1]))
        else:
            turned.append(inverted(transform))
    return Chain(turned, notes=tuple(notes), warnings=tuple(warnings))


def _read_record(path: str, inverse: bool) -> Chain:
    record = read_record(path)
    affine = read_affine(recorded_output(path, record, AFFINE))
    if not inverse:
        field, grid = read_field(recorded_output(path, record, FIELD))
        return Chain([(field, grid), affine], grid)
    reference = _recorded_grid(path, record, "moving")
    if INVERSE in record.get("outputs", {}):
        return Chain(
            [inverted(affine), read_field(recorded_output(path, record, INVERSE))], reference
        )
    back = _inverted([read_field(recorded_output(path, record, FIELD)), affine], path)
    return replace(back, reference=reference)


def _recorded_grid(path: str, record: dict[str, Any], which: str) -> Grid:
    unusable = InputError(f"{path}: says nothing usable about the grid of its {which}")
    try:
        facts = record[which]
        size = tuple(facts["size"])
        numbers = [tuple(map(float, facts[k])) for k in ("spacing", "direction", "origin")]
        grid = Grid(size, *numbers)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise unusable from error
    if len(size) not in (2, 3) or any(type(n) is not int or n < 1 for n in size):
        raise unusable
    check_grid(Path(path), grid)
    check_memory(Path(path), "×".join(map(str, size)), 4 * prod(size))
    return grid


def _refuse_lone_warp(specs: Sequence[str]) -> None:
    """A warp alone is half a registration when its record names a real affine."""
    if len(specs) != 1 or not specs[0].endswith(FIELD):
        return
    beside = expanded(specs[0].removesuffix(FIELD) + SUFFIX)
    if not is_file(beside):
        return
    if read_record(beside).get("affine_is_identity") is False:
        affine = specs[0].removesuffix(FIELD) + AFFINE
        raise UsageError(
            f"-t {specs[0]}: this warp belongs to an affine that is not the identity; "
            f"use -t {specs[0]} -t {affine}, or -t {beside}"
        )
