"""Generated pairs of images with labels and a known true deformation."""

from __future__ import annotations

from regtool.data.phantoms.pair import Phantom

KINDS = ("heart2d", "heart3d", "brain", "lung")
_DEFAULTS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "heart2d": ((192, 224), (1.4, 1.4)),
    "heart3d": ((12, 192, 224), (8.0, 1.4, 1.4)),
    "brain": ((96, 120, 104), (1.5, 1.5, 1.5)),
    "lung": ((100, 88, 120), (3.0, 2.8, 2.8)),
}


def make(kind: str, seed: int = 0, size: int | None = None) -> Phantom:
    """The phantom ``heart2d``, ``heart3d``, ``brain`` or ``lung``; ``seed`` varies the anatomy.

    ``size`` sets the voxels along every axis (hearts keep their 12 slices); the field of view stays
    and the spacing follows. Raises ValueError for another kind.
    """
    if kind not in _DEFAULTS:
        raise ValueError(f"unknown phantom {kind!r}; there are {', '.join(KINDS)}")
    shape, spacing = _DEFAULTS[kind]
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
