"""Fields for stages that need them: from any method or from files, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from regtool.data.cases import PairCase
from regtool.engine.registrar import Registrar, load_registrar
from regtool.engine.training.checkpoint import load_tensors, make_folder, save_tensors
from regtool.engine.training.field_files import KnownFields, RecordFields
from regtool.engine.training.store import Item, PairStore
from regtool.errors import InputError, OutputError, UsageError
from regtool.imaging.initial import initial_transform
from regtool.imaging.transforms import Transform
from regtool.imaging.volume import Volume
from regtool.paths import expanded, is_dir
from regtool.plugins import discovery
from regtool.prepare.chain import chain_displacement
from regtool.prepare.pair import prepare_pair
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid

log = logging.getLogger("regtool.train")

FORMAT = "regtool-fields-1"

Both = tuple[Tensor, Tensor]
"""Displacements (B, ndim, *S) float32 of a prepared pair, voxels: as it is, and swapped."""


class FieldSource(Protocol):
    """Where the fields of a split come from; ``facts`` are JSON and decide whether a cache fits."""

    @property
    def facts(self) -> Any: ...

    def both(self, number: int) -> Both:
        """The fields of pair ``number``. Raises RegtoolError."""
        ...


@dataclass(frozen=True)
class MethodFields:
    """Fields that a method finds for the prepared images, whatever preparation it asks for."""

    registrar: Registrar
    store: PairStore

    @property
    def facts(self) -> Any:
        options = self.registrar.options.model_dump(mode="json")
        return [self.registrar.method.name, self.registrar.weights.record(), options]

    def both(self, number: int) -> Both:
        items = [self.store.items[k] for k in self.store.of_pair(number)]
        ways = [[_found(self.registrar, item, swap) for item in items] for swap in (False, True)]
        return torch.stack(ways[0]), torch.stack(ways[1])


def _found(registrar: Registrar, item: Item, swap: bool) -> Tensor:
    """What the method finds for one item or its swapped form, (ndim, *S) in voxels."""
    sides = (item.moving, item.fixed) if swap else (item.fixed, item.moving)
    ndim = len(item.spacing)
    grid = Grid(
        tuple(reversed(item.fixed.image.shape[1:])),
        tuple(reversed(item.spacing)),
        tuple(np.eye(ndim).ravel().tolist()),
        (0.0,) * ndim,
    )
    fixed, moving = (Volume(s.image[0].float().cpu().numpy(), grid) for s in sides)
    kind, start = registrar.preparation.initial, None
    if kind != "none":
        start = initial_transform(kind, fixed, moving, seed=registrar.seed)
    prepared = prepare_pair(fixed, moving, registrar.preparation, initial=start)
    answer = registrar.predict(prepared)
    assert answer.displacement is not None  # the registrar has checked it
    chain: list[Transform] = [
        (prepared.world_field(answer.displacement), grid), prepared.world_affine(answer),
    ]  # fmt: skip
    return chain_displacement(grid, chain)


def open_source(
    spec: str,
    options: Mapping[str, Any],
    cases: Sequence[PairCase],
    store: PairStore,
    preparation: Preparation,
    **settings: Any,
) -> FieldSource:
    """The source that ``spec`` names: METHOD, METHOD@WEIGHTS, a folder of records, or ``known``.

    ``settings``: ``device``, ``threads``, ``seed``, ``slices``. Raises UsageError for anything
    else and for options of a folder, WeightsError for a method whose weights are missing.
    """
    name, _, weights = spec.partition("@")
    if name in discovery.names():
        registrar = load_registrar(
            name, preparation.ndim, weights=weights or None, settings=options,
            device=settings["device"], threads=settings["threads"], seed=settings["seed"],
        )  # fmt: skip
        return MethodFields(registrar, store)
    if spec == "known":
        if options:
            raise UsageError("fields=known takes no fields_options")
        return KnownFields(cases, preparation, settings["slices"], settings["seed"])
    folder = expanded(spec)
    if not is_dir(folder):
        known = ", ".join(discovery.names())
        raise UsageError(f"fields={spec}: neither a folder nor a method; known: {known}")
    if options:
        raise UsageError(f"fields={spec}: a folder of records takes no fields_options")
    return RecordFields(folder, cases, preparation, settings["slices"], settings["seed"])


def with_fields(
    store: PairStore,
    source: FieldSource,
    key: str,
    cache: Path | None,
    report: Callable[[int, int], None],
) -> PairStore:
    """``store`` with a field for each item and direction, from ``cache`` as far as it fits.

    ``key`` tells what the images were made from. ``report(done, total)`` may raise Interrupted;
    what was found until then is kept. Fields are stored as float16: at most 0.008 voxels off below
    16 voxels. Raises InputError, UsageError, Interrupted, and what the source raises.
    """
    full = hashlib.sha256(json.dumps([FORMAT, key, source.facts]).encode()).hexdigest()
    tensors = _kept(cache, full)
    count, before = len(store.names), len(tensors)
    try:
        for number in range(count):
            if f"{number}/0" not in tensors:
                for way, field in enumerate(source.both(number)):
                    tensors[f"{number}/{way}"] = _half(field, store.names[number])
            report(number + 1, count)
    finally:
        if cache is not None and len(tensors) > before:
            _keep(cache, tensors, full)
    fields: list[tuple[Tensor, Tensor]] = []
    for number in range(count):
        fields += zip(tensors[f"{number}/0"], tensors[f"{number}/1"], strict=True)
    return store.with_fields(fields)


def _half(field: Tensor, name: str) -> Tensor:
    half = field.detach().cpu().to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise InputError(f"the field of {name} is not finite, or beyond 65504 voxels")
    return half


def _kept(cache: Path | None, key: str) -> dict[str, Tensor]:
    if cache is None or not cache.exists():
        return {}
    try:
        tensors, metadata = load_tensors(cache)
    except InputError:
        return {}
    fits = (metadata.get("format"), metadata.get("key")) == (FORMAT, key)
    return tensors if fits else {}


def _keep(cache: Path, tensors: Mapping[str, Tensor], key: str) -> None:
    whole = {n: t for n, t in tensors.items() if f"{n.partition('/')[0]}/1" in tensors}
    try:
        make_folder(cache.parent)
        save_tensors(cache, whole, {"format": FORMAT, "key": key})
    except OutputError as error:
        log.warning("the fields are not kept: %s", error)


__all__ = ["Both", "FieldSource", "MethodFields", "open_source", "with_fields"]
