"""Generated pairs of images with labels and a known true deformation."""

from __future__ import annotations

from regtool.data.phantoms.pair import VIEWS, Phantom

KINDS = tuple(VIEWS)


def make(kind: str, seed: int = 0, size: int | None = None) -> Phantom:
    """The phantom ``heart2d``, ``heart3d``, ``brain`` or ``lung``; ``seed`` varies the anatomy.

    ``size`` sets the voxels along every axis (hearts keep their 12 slices); the field of view stays
    and the spacing follows. Raises ValueError for another kind.
    """
    if kind not in VIEWS:
        raise ValueError(f"unknown phantom {kind!r}; there are {', '.join(KINDS)}")
    shape, spacing = VIEWS[kind]
    if size is not None:
        wanted = (12, size, size) if kind == "heart3d" else (size,) * len(shape)
        spacing = tuple(s * n / m for s, n, m in zip(spacing, shape, wanted, strict=True))
        shape = wanted
    if kind.startswith("heart"):
        from regtool.data.phantoms.heart import heart

        return heart(len(shape), seed, shape, spacing)
    if kind == "brain":
        from regtool.data.phantoms.brain import brain

        return brain(seed, shape, spacing)
    from regtool.data.phantoms.lung import lung

    return lung(seed, shape, spacing)
