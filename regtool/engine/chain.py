"""Chains of transforms as users name them: files, ``[affine.mat,1]``, records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from regtool.engine.links import Link, doubled, parse, wrong_order
from regtool.engine.results import invert_field, inverted
from regtool.errors import InputError, UsageError
from regtool.imaging.nifti import check_grid, check_memory
from regtool.imaging.transforms import Transform, read_affine, read_field, read_transforms
from regtool.record import AFFINE, FIELD, INVERSE, is_record, read_record, recorded_output
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


def read_chain(specs: Sequence[str], inverse: bool = False) -> Chain:
    """Read the transforms of repeated ``-t``, in the order of antsApplyTransforms.

    The one given last is applied to the moving image first. ``[affine.mat,1]`` is the inverse of a
    linear transform, a record stands for its whole chain, ``identity`` for nothing. ``inverse``
    turns everything round; a record's own inverse field is used where there is one, others are
    inverted numerically.
    Raises UsageError, InputError, GeometryError.
    """
    return read_links(parse(specs), inverse)


def read_links(named: Sequence[Link], inverse: bool = False) -> Chain:
    """``read_chain`` of what is parsed already."""
    links = [_read(link, inverse) for link in named if not link.is_identity]
    if inverse:
        links.reverse()
    transforms = [t for link in links for t in link.transforms]
    reference = links[0].reference if links else None
    return Chain(
        transforms,
        reference,
        tuple(note for link in links for note in link.notes),
        (
            *wrong_order(named),
            *doubled(named),
            *(warning for link in links for warning in link.warnings),
        ),
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
    reference = recorded_grid(path, record, "moving")
    if INVERSE in record.get("outputs", {}):
        return Chain(
            [inverted(affine), read_field(recorded_output(path, record, INVERSE))], reference
        )
    back = _inverted([read_field(recorded_output(path, record, FIELD)), affine], path)
    return replace(back, reference=reference)


def recorded_grid(path: str | Path, record: Mapping[str, Any], which: str) -> Grid:
    """The grid of the ``fixed`` or ``moving`` image of a record. Raises InputError."""
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
