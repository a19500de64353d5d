"""What the losses and recipes of several methods share: words checked, chances, second looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from regtool.errors import UsageError
from regtool.losses.smoothness import diffusion
from regtool.plugins.exchange import Pair, Sample
from regtool.spatial.compose import compose
from regtool.spatial.warp import Padding, warp

Word = TypeVar("Word", bound=str)

UNITS = ("voxels", "mm")
"""What the setting ``units`` may be: in which smoothness is taken."""


def choice(
    settings: Mapping[str, Any], key: str, allowed: Iterable[Word], within: str = ""
) -> Word:
    """The word ``settings[key]``, one of ``allowed``. Raises UsageError, which names all of them.

    ``within`` is where the settings stand in the preset, such as ``network``, for the sentence.
    """
    found, known = settings[key], tuple(allowed)
    for word in known:
        if word == found:
            return word
    *others, last = known
    words = f"{', '.join(others)} or {last}" if others else last
    raise UsageError(f"{f'{within}.' if within else ''}{key} {found!r}: give {words}")


def chance(generator: torch.Generator, share: float) -> bool:
    """Whether something happens that happens in a ``share`` of all cases.

    Draws no random number where it never does.
    """
    if share <= 0:
        return False
    return float(torch.rand((), generator=generator, device=generator.device)) < share


def second_look(pair: Pair, displacement: Tensor, padding: Padding = "zeros") -> Pair:
    """The pair as a further pass sees it, its moving image warped by ``displacement``.

    (B, ndim, *S) in voxels. The moving image's companions and the pair's field, which belong to
    the image as it was, are left out.
    """
    moving = pair.moving
    images = [
        None if image is None else warp(image, displacement, padding=padding)
        for image in (moving.image, moving.original)
    ]
    assert images[0] is not None
    return Pair(pair.fixed, Sample(images[0], moving.spacing, original=images[1]))


def whole_way(before: Tensor | None, displacement: Tensor) -> Tensor:
    """The displacement of the pair as it was given, after a second look.

    ``before`` is what the first look found, or None where there was none, and ``displacement``
    what it left to find, (B, ndim, *S) in voxels. Labels and landmarks belong to the given pair.
    """
    return displacement if before is None else compose(before, displacement.float())


def roughness(field: Tensor, pair: Pair, units: str) -> Tensor:
    """Mean squared forward difference of a field (B, ndim, *S) in voxels, a scalar.

    With ``units`` ``mm`` it is that of the same field in millimetres, so that thick slices may
    move apart.
    """
    return diffusion(field, pair.fixed.spacing if units == "mm" else None)
