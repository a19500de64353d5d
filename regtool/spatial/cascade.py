"""Several looks at a pair, each at what those before it have warped."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from regtool.spatial.compose import compose
from regtool.spatial.warp import Padding, warp


def cascade(
    look: Callable[[Tensor], Tensor],
    moving: Tensor,
    passes: int = 1,
    padding: Padding = "zeros",
    start: Tensor | None = None,
) -> Tensor:
    """The displacement (B, ndim, *S) that ``passes`` looks at ``moving`` (B, C, *S) find together.

    ``look(image)`` answers the displacement, in voxels, that is left for an image; ``moving`` as it
    is, or as all looks before have warped it from the original, with ``padding`` beyond its edge.
    ``start`` is a displacement to go on from. As a recursive cascade whose stages share their
    weights (Zhao et al., ICCV 2019).
    """
    u = start
    for _ in range(passes):
        u = look(moving) if u is None else compose(u, look(warp(moving, u, padding=padding)))
    if u is None:
        raise ValueError("no passes and no start: there is no displacement")
    return u
