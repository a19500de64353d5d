"""What repeated ``-t`` say, and mistakes that can be told before any transform is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from regtool.errors import InputError, UsageError
from regtool.paths import expanded, is_file
from regtool.record import AFFINE, COMPOSITE, FIELD, INVERSE, SUFFIX, is_record, read_record


@dataclass(frozen=True)
class Link:
    """One ``-t``: a file, and whether ``[file,1]`` asks for its inverse."""

    path: str
    flipped: bool = False

    @property
    def is_identity(self) -> bool:
        """Whether it is ANTs' word for no transform at all, and not a file of that name."""
        return self.path == "identity" and not is_file(Path(self.path))

    @property
    def back(self) -> bool:
        """Whether it is a part of the way back, as ANTs has it: [affine,1], or an inverse warp."""
        return self.flipped or self.path.endswith(INVERSE)

    def __str__(self) -> str:
        return f"[{self.path},1]" if self.flipped else self.path


def parse(specs: Sequence[str]) -> list[Link]:
    """The files that repeated ``-t`` name; none of them is read, but a record beside a lone warp.

    ``[file,1]`` means inverted, ``[file,0]`` and ``file`` as it is. Raises UsageError, also for
    half a registration.
    """
    if not specs:
        raise UsageError("no transform; give at least one -t (a record stands for a whole chain)")
    links = [_parsed(spec) for spec in specs]
    _refuse_half(links)
    return links


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


def _refuse_half(links: Sequence[Link]) -> None:
    """Raise UsageError for a warp alone whose record beside it names a real affine."""
    if len(links) != 1 or links[0].flipped:
        return
    path = links[0].path
    prefix = _prefix(path, FIELD, INVERSE)
    if prefix is None:
        return
    record = read_record(prefix + SUFFIX)
    if record.get("affine_is_identity") is not False:
        return
    raise UsageError(
        f"-t {path}: this warp belongs to an affine that is not the identity; "
        f"use {_right(prefix, back=path.endswith(INVERSE))}"
    )


def wrong_order(links: Sequence[Link]) -> tuple[str, ...]:
    """A warning for each field and affine of one record that are not in the record's order."""
    found = []
    for one, other in pairwise(links):
        there = _prefix(one.path, AFFINE), _prefix(other.path, FIELD)
        back = _prefix(one.path, INVERSE), _prefix(other.path, AFFINE)
        for prefix, second in (there, back):
            if prefix is not None and prefix == second and _moves(prefix):
                found.append(
                    f"-t {one} -t {other}: the other way round than in {prefix}{SUFFIX}; "
                    f"did you mean {_right(prefix, back=prefix == back[0])}?"
                )
    return tuple(found)


def doubled(links: Sequence[Link]) -> tuple[str, ...]:
    """A warning for each field or affine beside the record, or composite, that contains it."""
    whole = {
        link.path.removesuffix(role): link.path
        for link in links
        for role in (SUFFIX, COMPOSITE)
        if link.path.endswith(role)
    }
    return tuple(
        f"-t {link}: is in {whole[prefix]}, too, and so is applied twice; leave out one of them"
        for link in links
        for role in (FIELD, AFFINE)
        if not link.flipped
        and link.path.endswith(role)
        and (prefix := link.path.removesuffix(role)) in whole
    )


def record_of(link: Link) -> Path | None:
    """The record that a transform is, or that lies beside it and names it."""
    if is_record(link.path):
        return expanded(link.path)
    prefix = _prefix(link.path, FIELD, AFFINE, INVERSE)
    return None if prefix is None else expanded(prefix + SUFFIX)


def _prefix(path: str, *roles: str) -> str | None:
    """The prefix of an output of one of these roles, if the record beside it is there."""
    for role in roles:
        if path.endswith(role) and is_file(expanded(path.removesuffix(role) + SUFFIX)):
            return path.removesuffix(role)
    return None


def _moves(prefix: str) -> bool:
    """Whether the affine of a record does anything, so that the order of the two matters."""
    try:
        record: Mapping[str, Any] = read_record(prefix + SUFFIX)
    except InputError:
        return False
    return record.get("affine_is_identity") is False


def _right(prefix: str, back: bool) -> str:
    """The options that mean all of a registration."""
    record = f"or -t {prefix}{SUFFIX}"
    if back:
        return f"-t [{prefix}{AFFINE},1] -t {prefix}{INVERSE}, {record} --inverse"
    return f"-t {prefix}{FIELD} -t {prefix}{AFFINE}, {record}"
