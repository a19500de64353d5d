"""ITK's text and Matlab files of linear transforms, taken apart here and not by ITK.

ITK's own readers trust the sizes that a file claims: a damaged one overwrites memory. The formats
are plain: lines ``Transform:``, ``Parameters:``, ``FixedParameters:``, or matrices of Matlab's
Level 4 (MathWorks, "MAT-File Format", chapter 2), named after the class and ``fixed``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import SimpleITK as sitk

from regtool.errors import InputError

LARGEST = 2**20
"""Bytes; a linear transform needs some hundred."""
TEXT_START = b"#Insight Transform File"
_CLASS = re.compile(r"([A-Za-z0-9]+)_(?:double|float)_([23])_([23])")
_COMPOSITE = "CompositeTransform"

_MAKERS: dict[str, Callable[[int], sitk.Transform]] = {
    "AffineTransform": sitk.AffineTransform,
    "MatrixOffsetTransformBase": sitk.AffineTransform,  # what ANTs writes
    "TranslationTransform": sitk.TranslationTransform,
    "ScaleTransform": sitk.ScaleTransform,
    "IdentityTransform": lambda n: sitk.Transform(n, sitk.sitkIdentity),
}
_MAKERS_OF_ONE: dict[tuple[str, int], Callable[[], sitk.Transform]] = {
    ("Euler2DTransform", 2): sitk.Euler2DTransform,
    ("Rigid2DTransform", 2): sitk.Euler2DTransform,
    ("Similarity2DTransform", 2): sitk.Similarity2DTransform,
    ("Euler3DTransform", 3): sitk.Euler3DTransform,
    ("VersorTransform", 3): sitk.VersorTransform,
    ("VersorRigid3DTransform", 3): sitk.VersorRigid3DTransform,
    ("Similarity3DTransform", 3): sitk.Similarity3DTransform,
    ("ScaleVersor3DTransform", 3): sitk.ScaleVersor3DTransform,
    ("ScaleSkewVersor3DTransform", 3): sitk.ScaleSkewVersor3DTransform,
    ("ComposeScaleSkewVersor3DTransform", 3): sitk.ComposeScaleSkewVersor3DTransform,
}


@dataclass(frozen=True)
class Stated:
    """A transform as a file states it: its ITK class and its numbers."""

    name: str
    parameters: tuple[float, ...] = ()
    fixed: tuple[float, ...] = ()


def read_linear(path: Path) -> sitk.Transform | None:
    """The linear transform of a text or Matlab file; None for classes that are not known here.

    Raises InputError for a damaged file, and for one of several transforms.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            return None
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    stated = _of_text(path, data) if data.startswith(TEXT_START) else _of_matlab(path, data)
    made = [_made(path, one) for one in stated if not one.name.startswith(_COMPOSITE)]
    if not made:
        raise _damaged(path, "no transform in it")
    known = [transform for transform in made if transform is not None]
    if len(known) < len(made):
        return None
    if len(known) == 1:
        return known[0]
    if not stated[0].name.startswith(_COMPOSITE):
        raise InputError(f"{path}: {len(known)} transforms in one file; give each in its own")
    if len({transform.GetDimension() for transform in known}) > 1:
        raise _damaged(path, "its parts differ in dimension")
    whole = sitk.CompositeTransform(known[0].GetDimension())
    for transform in known:
        whole.AddTransform(transform)
    return whole


def _of_text(path: Path, data: bytes) -> list[Stated]:
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise _damaged(path, "bytes that are no text") from None
    found: list[Stated] = []
    for line in (text.strip() for text in lines):
        if not line or line.startswith("#"):
            continue
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "Transform" and colon:
            found.append(Stated(value))
        elif key in ("Parameters", "FixedParameters") and found:
            last, numbers = found[-1], _numbers(path, value.split())
            if key == "Parameters":
                found[-1] = Stated(last.name, numbers, last.fixed)
            else:
                found[-1] = Stated(last.name, last.parameters, numbers)
        else:
            raise _damaged(path, f"a line {line[:40]!r}")
    return found


def _of_matlab(path: Path, data: bytes) -> list[Stated]:
    found: list[Stated] = []
    at = 0
    while at < len(data):
        name, values, at = _matrix(path, data, at)
        if name != "fixed":
            found.append(Stated(name, values))
        elif found:
            found[-1] = Stated(found[-1].name, found[-1].parameters, values)
        else:
            raise _damaged(path, "fixed parameters of nothing")
    return found


def _matrix(path: Path, data: bytes, at: int) -> tuple[str, tuple[float, ...], int]:
    """Name and values of the Level 4 matrix at an offset, and the offset behind it."""
    for order in "<>":  # the type itself says which, once it is read
        if len(data) < at + 20:
            raise _damaged(path, "it ends early")
        kind, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", data, at)
        if kind in ((0, 10, 100, 110) if order == "<" else (1000, 1010, 1100, 1110)):
            break
    else:
        raise InputError(f"{path}: not an ITK transform file (.mat, .tfm, .txt, .h5)")
    single = kind // 10 % 10 == 1
    count = rows * columns
    behind = at + 20 + length + count * (4 if single else 8)
    if imaginary or rows < 0 or columns < 0 or not 0 < length <= 256 or behind > len(data):
        raise _damaged(path, "a matrix of impossible size")
    name = data[at + 20 : at + 20 + length].split(b"\0")[0].decode("latin-1")
    values = struct.unpack_from(f"{order}{count}{'f' if single else 'd'}", data, at + 20 + length)
    return name, _finite(path, values), behind


def _numbers(path: Path, words: Sequence[str]) -> tuple[float, ...]:
    try:
        return _finite(path, [float(word) for word in words])
    except ValueError:
        raise _damaged(path, "something that is no number") from None


def _finite(path: Path, values: Sequence[float]) -> tuple[float, ...]:
    if not all(isfinite(value) for value in values):
        raise _damaged(path, "a number that is not finite")
    return tuple(float(value) for value in values)


def _made(path: Path, stated: Stated) -> sitk.Transform | None:
    found = _CLASS.fullmatch(stated.name)
    if found is None or found[2] != found[3]:
        if not stated.name.isascii() or not stated.name.isprintable() or not stated.name:
            raise _damaged(path, "a transform without a name")
        return None
    ndim = int(found[2])
    if found[1] in _MAKERS:
        transform = _MAKERS[found[1]](ndim)
    elif (found[1], ndim) in _MAKERS_OF_ONE:
        transform = _MAKERS_OF_ONE[found[1], ndim]()
    else:
        return None
    fixed = list(stated.fixed)
    wanted = transform.GetFixedParameters()
    if len(fixed) == ndim < len(wanted):  # Euler3DTransform has a fourth since ITK 4.6
        fixed += list(wanted[ndim:])
    if len(stated.parameters) != len(transform.GetParameters()):
        raise _damaged(path, f"{len(stated.parameters)} parameters of a {found[1]}")
    if fixed and len(fixed) != len(wanted):
        raise _damaged(path, f"{len(fixed)} fixed parameters of a {found[1]}")
    try:
        if fixed:
            transform.SetFixedParameters(fixed)
        transform.SetParameters(list(stated.parameters))
    except RuntimeError as error:  # a versor of no rotation, a singular matrix
        last = str(error).strip().splitlines()[-1].strip()
        raise _damaged(path, last) from None
    return transform


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: a damaged or unknown ITK transform file ({what})")
