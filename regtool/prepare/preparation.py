"""The preparation of images for a network, as stored in the config.json of its weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Percentile(_Frozen):
    """Map the ``low``-th percentile to 0 and the ``high``-th to 1, and clip."""

    kind: Literal["percentile"] = "percentile"
    low: float = Field(default=0.5, ge=0, lt=100)
    high: float = Field(default=99.5, gt=0, le=100)
    of: Literal["image", "mask", "pair"] = "image"

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class MinMax(_Frozen):
    """Map the smallest value to 0 and the largest to 1."""

    kind: Literal["minmax"] = "minmax"


class Window(_Frozen):
    """Map ``low`` to 0 and ``high`` to 1 (Hounsfield units in CT), and clip."""

    kind: Literal["window"] = "window"
    low: float = -1000.0
    high: float = 500.0


class ZScore(_Frozen):
    """Subtract the mean, divide by the SD, then map [-limit, limit] to [0, 1] and clip.

    ``of="pair"`` uses the mean and SD of both images together.
    """

    kind: Literal["zscore"] = "zscore"
    limit: float = Field(3.0, gt=0)
    of: Literal["image", "mask", "pair"] = "image"


class BiasField(_Frozen):
    """N4 bias-field correction (SimpleITK) at ``shrink`` times coarser sampling."""

    kind: Literal["n4"] = "n4"
    shrink: int = Field(4, ge=1)


Intensity = Annotated[
    Percentile | MinMax | Window | ZScore | BiasField, Field(discriminator="kind")
]


class Preparation(_Frozen):
    """How an image becomes a network's input. All tuples are in tensor axis order (z, y, x).

    ``orientation``: ``file`` keeps the fixed image's axes; three letters such as ``LPS`` name where
    the x, y and z axes point to; ``stack`` makes the most widely spaced axis z and lets the others
    point to where ``LPS`` would. Only permutations and flips: nothing is rotated.
    ``spacing``: mm for each axis, None keeps the file's.
    ``size``: voxels for each axis, None covers the whole image.
    ``multiple``: covered axes are extended to a multiple of this.
    ``fit``: axes with a size take a wider spacing where the image would not fit in; without a
    spacing (None) the one at which it just fits, so that the image is stretched over the box.
    ``margin``: voxels on both sides of such axes that the fitted image leaves free.
    ``anchor``: the middle of axes that have a size: image ``centre``, ``mask``, centroid of
    ``intensity``, or centroid of ``motion``, |fixed - moving|; ``--roi`` goes before all of them.
    ``outside``: beyond a box the field fades to zero over ``taper`` voxels, or the whole image is
    covered by ``tiles`` of that size, overlapping by ``overlap`` and blended.
    ``intensity``: steps in their order, ``intensity_on`` the whole ``image`` or only the ``box``,
    which takes no mask.
    ``initial``: default of ``--initial``.
    """

    orientation: str = "file"
    spacing: tuple[float | None, ...]
    size: tuple[int | None, ...]
    multiple: int = Field(16, ge=1, le=4096)
    fit: tuple[bool, ...] = ()
    margin: int = Field(0, ge=0, le=65536)
    anchor: Literal["centre", "mask", "intensity", "motion"] = "centre"
    outside: Literal["taper", "tiles"] = "taper"
    taper: int = Field(16, ge=1, le=65536)
    overlap: float = Field(0.5, ge=0, lt=1)
    intensity: tuple[Intensity, ...] = (Percentile(),)
    intensity_on: Literal["image", "box"] = "image"
    initial: Literal["none", "com", "rigid", "affine"] = "none"

    @field_validator("orientation")
    @classmethod
    def _known(cls, value: str) -> str:
        letters = value.upper()
        if value in {"file", "stack"}:
            return value
        pairs = ("LR", "PA", "SI")
        if len(letters) != 3 or any(sum(c in letters for c in pair) != 1 for pair in pairs):
            raise ValueError("orientation is 'file', 'stack' or three letters such as 'LPS'")
        return letters

    @model_validator(mode="after")
    def _consistent(self) -> Preparation:
        if len(self.spacing) != len(self.size) or len(self.size) not in (2, 3):
            raise ValueError("spacing and size need one entry for each of 2 or 3 axes")
        if self.fit and len(self.fit) != len(self.size):
            raise ValueError("fit needs one entry for each axis")
        if self.margin and not any(self.fit):
            raise ValueError("a margin needs axes that fit")
        if any(
            fits and size is not None and size <= 2 * self.margin
            for fits, size in zip(self.fit, self.size, strict=False)
        ):
            raise ValueError("margin leaves nothing of the size")
        if any(s is not None and s <= 0 for s in (*self.spacing, *self.size)):
            raise ValueError("spacing and size must be positive")
        if any(s is not None and not 1e-6 <= s <= 1e6 for s in self.spacing):
            raise ValueError("spacing must be from 1e-6 to 1e6 mm")
        if any(s is not None and s > 65536 for s in self.size):
            raise ValueError("size must be at most 65536")
        if self.outside == "tiles" and None in self.size:
            raise ValueError("tiles need a size for every axis")
        if self.intensity_on == "box" and any(
            isinstance(step, Percentile | ZScore) and step.of == "mask" for step in self.intensity
        ):
            raise ValueError("intensities of a mask are those of the image, not of the box")
        return self

    @property
    def ndim(self) -> int:
        """Dimension of the network's images, 2 or 3."""
        return len(self.size)
