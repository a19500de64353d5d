"""Pairs of one form go through a network together."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

from regtool.engine.registrar import Registrar
from regtool.plugins.exchange import Pair, Prediction, Sample
from regtool.prepare.pair import Prepared

AT_ONCE = {"cuda": 16, "cpu": 1}
"""2-D pairs in a batch, at most: one fills a processor's caches (40 against 53 ms a pair)."""


def at_once(registrar: Registrar) -> int:
    """How many pairs share a batch on this device."""
    return AT_ONCE.get(registrar.device.type, 1)


def key(registrar: Registrar, prepared: Prepared) -> Hashable:
    """Pairs with equal keys may share a batch; None for one that goes alone.

    Volumes fill the processor by themselves, and only methods that say so answer each element of a
    batch as they would alone.
    """
    alone = (
        registrar.ndim != 2
        or prepared.sliced
        or prepared.tile is not None
        or "batches" not in registrar.method.capabilities
    )
    return None if alone else (_form(prepared.pair.fixed), _form(prepared.pair.moving))


def _form(sample: Sample) -> Hashable:
    tensors = (sample.image, sample.mask, sample.labels, sample.points)
    shapes = tuple(None if t is None else tuple(t.shape) for t in tensors)
    return shapes, sample.spacing, sample.modality


def predict(registrar: Registrar, group: Sequence[Prepared]) -> list[tuple[Prediction, float]]:
    """The answer for each pair, with its share of the seconds."""
    start = time.perf_counter()
    answers = (
        [registrar.predict(p) for p in group] if len(group) == 1 else _jointly(registrar, group)
    )
    share = (time.perf_counter() - start) / len(group)
    return [(answer, share) for answer in answers]


def _jointly(registrar: Registrar, group: Sequence[Prepared]) -> list[Prediction]:
    whole = registrar.predict_pair(Pair.joined([p.pair for p in group]))
    if any(extra.kind == "table" for extra in whole.extras.values()):
        return [registrar.predict(p) for p in group]  # nobody knows which row is whose
    return [whole.part(slice(k, k + 1)) for k in range(len(group))]
