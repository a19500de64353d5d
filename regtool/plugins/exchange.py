"""The tensors that core and a method hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class Sample:
    """One image, or a batch of images on one grid.

    Shapes: image (B, C, *S) float32 in [0, 1]; mask (B, 1, *S) in {0, 1}; labels (B, 1, *S)
    int64; points (B, N, ndim) in voxels of this grid, component i along tensor axis i.
    ``spacing`` is in mm, one value per tensor axis (z, y, x) or (y, x). ``directions``: for each
    tensor axis its unit vector in the world (LPS, x y z), or None where the world is unknown.
    ``original``: in training with invented contrasts (``Augment.synthesis`` and ``transfer``) the
    image as it was, of the same shape; the network sees ``image``, a loss compares ``compared``.
    """

    image: Tensor
    spacing: tuple[float, ...]
    mask: Tensor | None = None
    labels: Tensor | None = None
    points: Tensor | None = None
    modality: str | None = None
    directions: tuple[tuple[float, ...], ...] | None = None
    original: Tensor | None = None

    @property
    def compared(self) -> Tensor:
        """What a similarity is taken of: ``original`` where the image has another's contrast."""
        return self.image if self.original is None else self.original

    def along_axes(self, vector: Sequence[float]) -> tuple[float, ...]:
        """A vector of the world (LPS, x y z) along the tensor axes, in its own unit.

        In a slice of a volume the part across the slice is left out. Raises ValueError where the
        world is unknown or has another dimension.
        """
        if self.directions is None or any(len(d) != len(vector) for d in self.directions):
            raise ValueError(f"{tuple(vector)} is no vector of this image's world")
        return tuple(sum(a * b for a, b in zip(d, vector, strict=True)) for d in self.directions)

    def to(self, device: torch.device | str) -> Sample:
        """Return the same sample with its tensors on ``device``."""

        def move(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device)

        return Sample(
            self.image.to(device),
            self.spacing,
            move(self.mask),
            move(self.labels),
            move(self.points),
            self.modality,
            self.directions,
            move(self.original),
        )

    def part(self, which: slice) -> Sample:
        """Return some elements of the batch."""

        def cut(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[which]

        return Sample(
            self.image[which],
            self.spacing,
            cut(self.mask),
            cut(self.labels),
            cut(self.points),
            self.modality,
            self.directions,
            cut(self.original),
        )

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """Return samples of one form (shapes, spacing, companions) as one batch."""
        import torch

        def together(tensors: list[Tensor | None]) -> Tensor | None:
            present = [t for t in tensors if t is not None]
            return torch.cat(present) if len(present) == len(tensors) else None

        return cls(
            torch.cat([s.image for s in samples]),
            samples[0].spacing,
            together([s.mask for s in samples]),
            together([s.labels for s in samples]),
            together([s.points for s in samples]),
            samples[0].modality,
            samples[0].directions if len({s.directions for s in samples}) == 1 else None,
            together([s.original for s in samples]),
        )


@dataclass
class Pair:
    """A fixed and a moving sample on the same grid.

    ``field``: a displacement (B, ndim, *S) in voxels that another method or a file gives for the
    pair, in training steps of stages that need ``"fields"``; None elsewhere.
    """

    fixed: Sample
    moving: Sample
    field: Tensor | None = None

    def to(self, device: torch.device | str) -> Pair:
        """Return the same pair with its tensors on ``device``."""
        field = None if self.field is None else self.field.to(device)
        return Pair(self.fixed.to(device), self.moving.to(device), field)

    def part(self, which: slice) -> Pair:
        """Return some elements of the batch, of both sides."""
        field = None if self.field is None else self.field[which]
        return Pair(self.fixed.part(which), self.moving.part(which), field)

    def slices(self) -> Pair:
        """Return volumes (B, C, z, y, x) as a batch of slices (B * z, C, y, x), images only."""

        def flat(image: Tensor) -> Tensor:
            return image.transpose(1, 2).flatten(0, 1)

        def cut(sample: Sample) -> Sample:
            axes = None if sample.directions is None else sample.directions[1:]
            original = None if sample.original is None else flat(sample.original)
            return Sample(
                flat(sample.image),
                sample.spacing[1:],
                modality=sample.modality,
                directions=axes,
                original=original,
            )

        return Pair(cut(self.fixed), cut(self.moving))

    def swapped(self) -> Pair:
        """Return the pair in the other direction, without its field."""
        return Pair(self.moving, self.fixed)

    @classmethod
    def joined(cls, pairs: Sequence[Pair]) -> Pair:
        """Return pairs of one form (shapes, spacing, companions) as one batch."""
        import torch

        fields = [p.field for p in pairs if p.field is not None]
        return cls(
            Sample.joined([p.fixed for p in pairs]),
            Sample.joined([p.moving for p in pairs]),
            torch.cat(fields) if len(fields) == len(pairs) else None,
        )


@dataclass
class Extra:
    """An additional result of a method.

    ``kind`` says how core writes it: ``field`` (B, ndim, *S) in voxels, ``image`` and ``map``
    (B, C, *S), ``trajectory`` (B, N, ndim, *S), displacements at N points of the way, ``table`` any
    2-D tensor, written as CSV where ``columns`` names its columns, ``state`` a tensor of the
    method's own to go on from, with ``facts`` (JSON data) about it. ``level`` l means a grid 2**l
    times coarser, in whose voxels displacements are; core enlarges it, corner to corner, as
    ``regtool.api.spatial.resize`` does.
    """

    tensor: Tensor
    kind: Literal["field", "image", "map", "trajectory", "table", "state"]
    level: int = 0
    columns: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Prediction:
    """What a method answers.

    ``displacement`` (B, ndim, *S): in voxels of the pair's grid, component i along tensor axis i,
    ``warped(x) = moving(x + u(x))``, so it maps fixed points to moving points.
    ``velocity``: the stationary velocity, same units, if the method has one; core integrates it
    when there is no displacement. ``affine`` (B, ndim+1, ndim+1): homogeneous, voxel coordinates
    in tensor axis order, applied *after* the displacement: ``moving(A(x + u(x)))``.
    ``inverse``: a true inverse of ``displacement``, same form. ``notes``: further entries of the
    record (JSON data) under names that it does not have yet, such as ``stopped_at``. ``warnings``:
    sentences for the user and the record.
    """

    displacement: Tensor | None = None
    velocity: Tensor | None = None
    affine: Tensor | None = None
    inverse: Tensor | None = None
    extras: dict[str, Extra] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def part(self, which: slice) -> Prediction:
        """Return some elements of the batch; tables and states, maybe without one, are left out."""

        def cut(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[which]

        extras = {
            name: Extra(e.tensor[which], e.kind, e.level)
            for name, e in self.extras.items()
            if e.kind not in ("table", "state")
        }
        return Prediction(
            cut(self.displacement),
            cut(self.velocity),
            cut(self.affine),
            cut(self.inverse),
            extras,
            self.notes,
            self.warnings,
        )


def _keep_going(step: int, prediction: Prediction) -> bool:
    return True


def _silent(done: int, total: int) -> None:
    return None


def _unseen(numbers: Mapping[str, float]) -> None:
    return None


def _nobody_asks() -> bool:
    return False


@dataclass
class Context:
    """What a method may use while it works.

    ``generator`` is seeded and lives on ``device``: every random number comes from it.
    ``preview(step, prediction)`` may be called with intermediate results; a False answer asks the
    method to stop and return what it has. ``report(done, total)`` moves the progress bar.
    ``show(numbers)`` puts named figures into the live panel. ``stop_requested()`` turns true when
    the user asks a method that is ``stoppable`` to return the best it has so far.
    ``optimiser`` names the optimiser whose turn it is in a training step with several, ``step``
    counts training steps from 0, ``training`` tells a training step from a registration.
    """

    generator: torch.Generator
    device: torch.device
    preview: Callable[[int, Prediction], bool] = _keep_going
    report: Callable[[int, int], None] = _silent
    show: Callable[[Mapping[str, float]], None] = _unseen
    stop_requested: Callable[[], bool] = _nobody_asks
    optimiser: str = "main"
    step: int = 0
    training: bool = False

    @property
    def watched(self) -> bool:
        """Whether anyone looks at previews, so that they are worth computing."""
        return self.preview is not _keep_going
