"""Validation: Dice of warped labels, distance of landmarks, folds, similarity; else the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from regtool.engine.training.store import PairStore
from regtool.losses.landmarks import landmark_distances
from regtool.plugins.exchange import Context, Pair, Prediction
from regtool.prepare.preparation import Preparation
from regtool.prepare.tiles import blended
from regtool.spatial.compose import compose_affine
from regtool.spatial.integrate import integrate
from regtool.spatial.jacobian import inner, jacobian_determinant
from regtool.spatial.warp import warp, warp_labels


def displacement_of(prediction: Prediction) -> Tensor:
    """The whole displacement (B, ndim, *S) in voxels: integrated velocity, affine applied after.

    Raises ValueError when the prediction has neither displacement nor velocity.
    """
    displacement = prediction.displacement
    if displacement is None:
        if prediction.velocity is None:
            raise ValueError("the prediction holds neither a displacement nor a velocity")
        displacement = integrate(prediction.velocity)
    if prediction.affine is not None:
        displacement = compose_affine(prediction.affine, displacement)
    return displacement.float()


@dataclass
class Overlap:
    """Voxel counts of one pair, summed over its slices, by label."""

    fixed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    moving: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    both: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def add(self, fixed: Tensor, moving: Tensor) -> None:
        """Count two label maps of equal shape; negative labels count as background."""
        a, b = fixed.reshape(-1).clamp(min=0), moving.reshape(-1).clamp(min=0)
        size = max(int(a.max()), int(b.max()), 0) + 1
        self.fixed = _sum(self.fixed, torch.bincount(a, minlength=size).cpu())
        self.moving = _sum(self.moving, torch.bincount(b, minlength=size).cpu())
        self.both = _sum(self.both, torch.bincount(a[a == b], minlength=size).cpu())

    def dice(self) -> dict[int, float]:
        """Dice by label, background and labels empty in both left out."""
        total = (self.fixed + self.moving).tolist()
        both = self.both.tolist()
        return {k: 2 * both[k] / total[k] for k in range(1, len(total)) if total[k]}


def _sum(a: Tensor, b: Tensor) -> Tensor:
    out = torch.zeros(max(len(a), len(b)), dtype=torch.int64)
    out[: len(a)] += a
    out[: len(b)] += b
    return out


@dataclass
class _Sums:
    """Running sums over the voxels of one pair."""

    overlap: Overlap = field(default_factory=Overlap)
    labelled: bool = False
    folds: int = 0
    voxels: int = 0
    landmarks: int = 0
    distance: float = 0.0
    moments: list[float] = field(default_factory=lambda: [0.0] * 6)

    def add(self, pair: Pair, displacement: Tensor) -> None:
        determinant = jacobian_determinant(displacement)
        determinant = determinant[(slice(None), *inner(determinant.shape[1:]))]
        self.folds += int((~(determinant > 0)).sum())
        self.voxels += determinant.numel()
        warped = warp(pair.moving.image.float(), displacement).double()
        fixed = pair.fixed.image.double()
        for k, value in enumerate((fixed, warped, fixed * fixed, warped * warped, fixed * warped)):
            self.moments[k] += float(value.sum())
        self.moments[5] += fixed.numel()
        points = pair.fixed.points, pair.moving.points
        if points[0] is not None and points[1] is not None:
            apart = landmark_distances(displacement, points[0], points[1], pair.fixed.spacing)
            self.landmarks += apart.numel()
            self.distance += float(apart.double().sum())
        if pair.fixed.labels is not None and pair.moving.labels is not None:
            self.labelled = True
            self.overlap.add(
                pair.fixed.labels, warp_labels(pair.moving.labels, displacement, "nearest")
            )

    def ncc(self) -> float:
        """Global correlation of the fixed and the warped image."""
        a, b, aa, bb, ab, n = self.moments
        cross = ab / n - a * b / n**2
        spread = max(aa / n - (a / n) ** 2, 0.0) * max(bb / n - (b / n) ** 2, 0.0)
        return cross / spread**0.5 if spread > 0 else 0.0

    def figures(self) -> dict[str, float]:
        out = {"ncc": self.ncc(), "folds": 100.0 * self.folds / max(self.voxels, 1)}
        if self.landmarks:
            out["tre"] = self.distance / self.landmarks
        if self.labelled:
            by_label = self.overlap.dice()
            if by_label:
                out["dice"] = sum(by_label.values()) / len(by_label)
                out |= {f"dice_{label}": value for label, value in by_label.items()}
        return out


Register = Callable[[Pair, Context], Prediction]
Loss = Callable[[Pair, Context], float]


def as_prepared(register: Register, preparation: Preparation) -> Register:
    """``register``, tile by tile where the preparation has the network see tiles."""
    if preparation.outside != "tiles":
        return register
    edges = tuple(n for n in preparation.size if n is not None)

    def in_tiles(pair: Pair, context: Context) -> Prediction:
        def part(tile: Pair) -> Tensor:
            return displacement_of(register(tile, context))

        return Prediction(blended(pair, edges, preparation.overlap, part))

    return in_tiles


def validate_pair(
    store: PairStore, indices: Sequence[int], batch: int, context: Context, register: Register
) -> dict[str, float]:
    """Figures of one pair in its primary direction: dice, dice_LABEL, tre, folds (percent), ncc.

    ``tre`` is the mean distance (mm) of the landmarks inside the prepared grid.

    Slices are registered ``batch`` at a time and counted together, so Dice is that of the volume.
    """
    sums = _Sums()
    for start in range(0, len(indices), batch):
        pair = store.batch([(k, False) for k in indices[start : start + batch]], context.device)
        sums.add(pair, displacement_of(register(pair, context)))
    return sums.figures()


def loss_of_pair(
    store: PairStore, indices: Sequence[int], batch: int, context: Context, loss: Loss
) -> dict[str, float]:
    """The training loss of one pair, averaged over its slices, as ``{"loss": ...}``.

    Without its landmarks: they are for measuring only.
    """
    total = 0.0
    for start in range(0, len(indices), batch):
        part = indices[start : start + batch]
        pair = store.batch([(k, False) for k in part], context.device)
        bare = [replace(sample, points=None) for sample in (pair.fixed, pair.moving)]
        total += loss(Pair(bare[0], bare[1], pair.field), context) * len(part)
    return {"loss": total / len(indices)}


def average(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over the pairs that have it, most important figures first."""
    names = sorted({name for row in rows for name in row}, key=_rank)
    return {
        name: sum(row[name] for row in rows if name in row) / sum(name in row for row in rows)
        for name in names
    }


def _rank(name: str) -> tuple[int, int, str]:
    first = {"dice": 0, "loss": 1, "tre": 2, "ncc": 3, "folds": 4}
    if name in first:
        return first[name], 0, name
    label = name.removeprefix("dice_")
    return 5, int(label) if label.isdigit() else 0, name


def score(figures: dict[str, float], select: str | None = None) -> float:
    """What the best checkpoint maximises: Dice, or minus the loss where there are no labels.

    ``select`` names another figure; all but Dice are to be small.
    """
    chosen = judge(figures, select)
    return figures[chosen] if chosen == "dice" else -figures[chosen]


def judge(figures: dict[str, float], select: str | None = None) -> str:
    """The name of the figure that picks the best weights."""
    return select or ("dice" if "dice" in figures else "loss")


def in_words(figures: dict[str, float]) -> str:
    """The main figures for a message."""
    shown = [f"{name} {figures[name]:.4f}" for name in ("dice", "loss", "ncc") if name in figures]
    if "tre" in figures:
        shown.append(f"TRE {figures['tre']:.3f} mm")
    if "folds" in figures:
        shown.append(f"folds {figures['folds']:.3f} %")
    return ", ".join(shown)
