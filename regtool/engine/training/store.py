"""Prepared pairs in memory: compact items, batches of one shape, an order set by the seed alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from regtool.engine.training.seeds import permutation
from regtool.plugins.exchange import Pair, Sample

TENSORS = ("image", "labels", "mask", "points")


@dataclass(frozen=True)
class StoredSample:
    """One sample without its batch axis: image float16, labels and mask the smallest integers."""

    image: Tensor
    labels: Tensor | None = None
    mask: Tensor | None = None
    points: Tensor | None = None
    modality: str | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Samples of one kind can be stacked."""
        shapes = [None if (t := getattr(self, n)) is None else tuple(t.shape) for n in TENSORS]
        return (self.modality, *shapes)

    @classmethod
    def of(cls, sample: Sample, index: int) -> StoredSample:
        """Take element ``index`` of a batch."""

        def pick(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[index].detach().cpu()

        labels, mask, points = pick(sample.labels), pick(sample.mask), pick(sample.points)
        return cls(
            sample.image[index].detach().cpu().to(torch.float16).clone(),
            None if labels is None else _smallest(labels).clone(),
            None if mask is None else mask.to(torch.uint8),
            None if points is None else points.float().clone(),
            sample.modality,
        )


def _smallest(labels: Tensor) -> Tensor:
    """Labels in the smallest integer type that holds them."""
    low, high = (int(labels.min()), int(labels.max())) if labels.numel() else (0, 0)
    if low >= 0 and high <= 255:
        return labels.to(torch.uint8)
    return labels.to(torch.int16 if low >= -32768 and high <= 32767 else torch.int64)


@dataclass(frozen=True)
class Item:
    """What one training example is made of: a whole pair, or one slice of it.

    ``pair`` is the index of the pair it belongs to; ``spacing`` in mm, one value a tensor axis.
    ``fields``: the displacements (ndim, *S) of this direction and of the other, float16, voxels.
    """

    fixed: StoredSample
    moving: StoredSample
    spacing: tuple[float, ...]
    pair: int
    fields: tuple[Tensor, Tensor] | None = None

    @property
    def points(self) -> tuple[Tensor, Tensor] | None:
        """The landmarks of the fixed and the moving image, where both have some."""
        fixed, moving = self.fixed.points, self.moving.points
        return None if fixed is None or moving is None else (fixed, moving)


@dataclass
class PairStore:
    """All items of a split, with the names of their pairs."""

    items: list[Item] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, name: str, pair: Pair) -> None:
        """Add a prepared pair; each element of its batch (a slice) becomes one item."""
        index = len(self.names)
        self.names.append(name)
        for b in range(pair.fixed.image.shape[0]):
            self.items.append(
                Item(
                    StoredSample.of(pair.fixed, b),
                    StoredSample.of(pair.moving, b),
                    tuple(pair.fixed.spacing),
                    index,
                )
            )

    @property
    def has_labels(self) -> bool:
        """Whether any item has labels in both images."""
        return any(i.fixed.labels is not None and i.moving.labels is not None for i in self.items)

    @property
    def has_points(self) -> bool:
        """Whether any item has landmarks in both images."""
        return any(item.points is not None for item in self.items)

    @property
    def fingerprint(self) -> str:
        """Tells whether two runs see the same data: names, shapes and image sums."""
        facts = [
            (
                self.names[i.pair],
                list(i.fixed.image.shape),
                i.spacing,
                float(i.fixed.image.double().sum()),
                float(i.moving.image.double().sum()),
                *(float(f.double().square().sum()) for f in i.fields or ()),
                *(float(p.double().square().sum()) for p in i.points or ()),
            )
            for i in self.items
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def without_blank(self) -> PairStore:
        """Only the items where both images vary; slices of pure background teach nothing."""

        def varies(sample: StoredSample) -> bool:
            image = sample.image.float()
            return bool(image.max() - image.min() > 1e-3)

        kept = [i for i in self.items if varies(i.fixed) and varies(i.moving)]
        return PairStore(kept, self.names)

    def without_points(self) -> PairStore:
        """The same items without landmarks."""

        def bare(sample: StoredSample) -> StoredSample:
            return replace(sample, points=None)

        items = [replace(i, fixed=bare(i.fixed), moving=bare(i.moving)) for i in self.items]
        return PairStore(items, self.names)

    @cached_property
    def field_statistics(self) -> dict[str, list[float]] | None:
        """Mean and SD of each component of all fields, voxels; None where items have none."""
        fields = [f.flatten(1) for i in self.items for f in i.fields or ()]
        if not fields:
            return None
        count = sum(f.shape[1] for f in fields)
        sums = torch.stack([f.double().sum(1) for f in fields])
        squares = torch.stack([f.double().square().sum(1) for f in fields])
        mean = sums.sum(0) / count
        spread = (squares.sum(0) / count - mean.square()).clamp(min=0).sqrt()
        return {"mean": mean.tolist(), "std": spread.tolist()}

    def of_pair(self, pair: int) -> list[int]:
        """Indices of the items of one pair, in slice order."""
        return [k for k, item in enumerate(self.items) if item.pair == pair]

    def to(self, device: torch.device) -> PairStore:
        """The same store with its tensors on ``device``."""

        def move(sample: StoredSample) -> StoredSample:
            moved = {n: t.to(device) for n in TENSORS if (t := getattr(sample, n)) is not None}
            return replace(sample, **moved)

        def both(fields: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
            return None if fields is None else (fields[0].to(device), fields[1].to(device))

        items = [
            replace(i, fixed=move(i.fixed), moving=move(i.moving), fields=both(i.fields))
            for i in self.items
        ]
        return PairStore(items, self.names)

    def with_fields(self, fields: Sequence[tuple[Tensor, Tensor]]) -> PairStore:
        """The same items, each with the displacements of its two directions."""
        pairs = zip(self.items, fields, strict=True)
        return PairStore([replace(i, fields=f) for i, f in pairs], self.names)

    def exchanged(self) -> PairStore:
        """The same items with fixed and moving in each other's place."""
        items = [
            replace(
                i,
                fixed=i.moving,
                moving=i.fixed,
                fields=None if i.fields is None else i.fields[::-1],
            )
            for i in self.items
        ]
        return PairStore(items, self.names)

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(
            t.numel() * t.element_size()
            for i in self.items
            for s in (i.fixed, i.moving)
            for n in TENSORS
            if (t := getattr(s, n)) is not None
        ) + sum(f.numel() * f.element_size() for i in self.items for f in i.fields or ())

    def batch(self, entries: Sequence[tuple[int, bool]], device: torch.device) -> Pair:
        """Stack items into a Pair on ``device``; the flag of an entry swaps fixed and moving.

        Images become float32, labels int64. Spacing is the mean over the items.
        """
        chosen = [self.items[index] for index, _ in entries]
        sides = [
            (i.moving, i.fixed) if swap else (i.fixed, i.moving)
            for i, (_, swap) in zip(chosen, entries, strict=True)
        ]
        spacing = tuple(
            sum(column) / len(chosen) for column in zip(*(i.spacing for i in chosen), strict=True)
        )
        fixed, moving = (_stack([pair[side] for pair in sides], spacing, device) for side in (0, 1))
        fields = [
            i.fields[swap]
            for i, (_, swap) in zip(chosen, entries, strict=True)
            if i.fields is not None
        ]
        whole = len(fields) == len(chosen)
        return Pair(fixed, moving, torch.stack(fields).to(device).float() if whole else None)


def _stack(samples: list[StoredSample], spacing: tuple[float, ...], device: torch.device) -> Sample:
    def join(name: str, dtype: torch.dtype) -> Tensor | None:
        values = [getattr(s, name) for s in samples]
        if values[0] is None:
            return None
        return torch.stack(values).to(device, non_blocking=True).to(dtype)

    image = join("image", torch.float32)
    assert image is not None
    return Sample(
        image,
        spacing,
        join("mask", torch.float32),
        join("labels", torch.int64),
        join("points", torch.float32),
        samples[0].modality,
    )


class Order:
    """Which items make up the batch of each step.

    Every item occurs once an epoch in both directions, or only as it is without ``both``. Items of
    different kinds never meet in a batch: each epoch shuffles within each kind, cuts batches (the
    last one of a kind is filled from the kind's start) and shuffles the batches. All of it is a
    function of seed, stage and epoch, so any step's batch can be found without the steps before.
    """

    def __init__(
        self, items: Sequence[Item], batch: int, seed: int, stage: str, both: bool = True
    ) -> None:
        if not items:
            raise ValueError("no items to train on")
        kinds: dict[Any, list[tuple[int, bool]]] = {}
        for index, item in enumerate(items):
            fixed, moving = item.fixed.kind, item.moving.kind
            kinds.setdefault((fixed, moving), []).append((index, False))
            if both:
                kinds.setdefault((moving, fixed), []).append((index, True))
        self._kinds: Mapping[Any, list[tuple[int, bool]]] = kinds
        self._batch = batch
        self._place = (seed, stage)
        self.per_epoch = sum(-(-len(entries) // batch) for entries in kinds.values())
        self._epoch = -1
        self._batches: list[list[tuple[int, bool]]] = []

    def entries(self, step: int) -> list[tuple[int, bool]]:
        """(item, swapped) for every place of the batch at ``step``."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._batches = self._cut(epoch)
            self._epoch = epoch
        return self._batches[place]

    def _cut(self, epoch: int) -> list[list[tuple[int, bool]]]:
        seed, stage = self._place
        batches = []
        for number, entries in enumerate(self._kinds.values()):
            order = permutation(len(entries), seed, stage, "order", epoch, number)
            whole = -(-len(order) // self._batch) * self._batch
            filled = [entries[order[k % len(order)]] for k in range(whole)]
            batches += [filled[k : k + self._batch] for k in range(0, whole, self._batch)]
        shuffle = permutation(len(batches), seed, stage, "batches", epoch)
        return [batches[k] for k in shuffle]
