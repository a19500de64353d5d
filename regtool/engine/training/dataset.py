"""From data readers to prepared pairs in memory, kept in the run folder for the next start."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from regtool.data.cases import PairCase
from regtool.data.loading import load_image, load_labels, load_points
from regtool.data.readers import open_data
from regtool.engine.training.checkpoint import load_tensors, make_folder, save_tensors
from regtool.engine.training.store import TENSORS, Item, PairStore, StoredSample
from regtool.errors import InputError, OutputError, UsageError
from regtool.imaging.reading import read_mask
from regtool.imaging.volume import Volume
from regtool.plugins.exchange import Pair
from regtool.prepare.pair import Prepared, prepare_pair
from regtool.prepare.preparation import Preparation

log = logging.getLogger("regtool.train")

CACHE_FORMAT = "regtool-pairs-2"


Splits = tuple[list[PairCase], list[PairCase]]
"""Training and validation cases."""


def open_splits(
    data: Sequence[str],
    val: str | None,
    check: Callable[[str, Sequence[PairCase]], None] | None = None,
) -> Splits:
    """Training and validation pairs of the ``--data`` and ``--val`` options.

    Pairs that the readers mark ``val`` validate; with ``--val`` only those of that source do (all
    of its pairs if it marks none). A pair on both sides, in whichever direction, is refused.
    ``check`` is shown each option with its value and pairs, and may raise.
    Raises UsageError, InputError.
    """
    cases = []
    for spec in data:
        cases += (found := open_data(spec))
        if check is not None:
            check(f"--data {spec}", found)
    train = [case for case in cases if case.split == "train"]
    chosen = [case for case in cases if case.split == "val"]
    if val is not None:
        offered = open_data(val, option="--val")
        if check is not None:
            check(f"--val {val}", offered)
        chosen = [case for case in offered if case.split == "val"] or offered
    if not train:
        raise InputError(f"--data {' '.join(data)}: {_nothing_to_train(data, cases)}")
    trained = {frozenset((c.fixed.image, c.moving.image)) for c in train}  # in both directions
    shared = [c for c in chosen if frozenset((c.fixed.image, c.moving.image)) in trained]
    if shared:
        given, own = "--data " + " ".join(data), "its validation pairs"
        if val is not None:
            given, own = f"--val {val}", "its pairs"
        raise UsageError(
            f"{given}: {len(shared)} of {own} {'is' if len(shared) == 1 else 'are'} also trained "
            f"on, first {min(c.fixed.image for c in shared)}; split by subject"
        )
    return train, chosen


def _nothing_to_train(data: Sequence[str], cases: Sequence[PairCase]) -> str:
    """What the pairs are, and how to train on them where their reader has folds."""
    splits = Counter(case.split for case in cases)
    there = ", ".join(f"{count} of '{split}'" for split, count in sorted(splits.items()))
    for spec in data:
        if spec.startswith("dirlab:") and "fold=" not in spec:
            joint = "&" if "?" in spec else "?"
            return f"no pairs of the split 'train' ({there}); name a fold: {spec}{joint}fold=1"
    return f"no pairs of the split 'train' ({there or 'none at all'})"


def prepare_cases(
    cases: Sequence[PairCase],
    preparation: Preparation,
    *,
    slices: int | None = None,
    seed: int = 0,
    threads: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> PairStore:
    """Read and prepare all pairs. A 2-D preparation cuts volumes along ``slices``, by default along
    their most widely spaced axis. Raises InputError or GeometryError naming the file."""
    store = PairStore()
    workers = max(1, min(4, threads))

    def work(case: PairCase) -> Pair:
        return prepare_case(case, preparation, slices, seed).pair

    with ThreadPoolExecutor(workers) as pool:
        for number, pair in enumerate(_bounded(pool, work, cases, 2 * workers)):
            store.add(cases[number].name, pair)
            if report is not None:
                report(number + 1, len(cases))
    return store


def _bounded(
    pool: ThreadPoolExecutor,
    work: Callable[[PairCase], Pair],
    cases: Sequence[PairCase],
    ahead: int,
) -> Iterator[Pair]:
    """Results in order, with at most ``ahead`` of them waiting in memory."""
    futures = [pool.submit(work, case) for case in cases[:ahead]]
    try:
        for number in range(len(cases)):
            result = futures.pop(0).result()
            if number + ahead < len(cases):
                futures.append(pool.submit(work, cases[number + ahead]))
            yield result
    finally:
        for future in futures:
            future.cancel()


def prepare_case(
    case: PairCase, preparation: Preparation, slices: int | None, seed: int
) -> Prepared:
    """Read and prepare one pair with its companions. Raises InputError or GeometryError."""
    fixed, moving = load_image(case.fixed), load_image(case.moving)
    axis = slicing_axis(fixed, preparation.ndim, slices)
    extra: dict[str, Any] = {}
    for side, which, image in (("fixed", case.fixed, fixed), ("moving", case.moving, moving)):
        if which.labels is not None:
            extra[f"{side}_labels"] = load_labels(which, image)
        if which.mask is not None:
            extra[f"{side}_mask"] = read_mask(which.mask)
        if which.points is not None:
            extra[f"{side}_points"] = load_points(which, image)
    if preparation.initial != "none":
        from regtool.imaging.initial import initial_transform

        extra["initial"] = initial_transform(
            preparation.initial,
            fixed,
            moving,
            extra.get("fixed_mask"),
            extra.get("moving_mask"),
            seed=seed,
        )
    modalities = {
        side: which.modality
        for side, which in (("fixed", case.fixed), ("moving", case.moving))
        if which.modality
    }
    return prepare_pair(fixed, moving, preparation, slices=axis, modalities=modalities, **extra)


def slicing_axis(volume: Volume, ndim: int, chosen: int | None) -> int | None:
    """Tensor axis along which a volume is cut for a network of ``ndim`` dimensions; None: not."""
    if ndim == volume.ndim:
        return None
    if volume.ndim == 2:
        raise UsageError(f"{volume.name}: 2-D, but the preset is 3-D; choose a 2-D --preset")
    if chosen is not None:
        if not -3 <= chosen < 3:
            raise UsageError(f"slices={chosen}: a volume has the tensor axes 0, 1 and 2")
        return chosen % 3
    if 1 in volume.grid.shape:
        return volume.grid.shape.index(1)
    spacing = tuple(reversed(volume.grid.spacing))
    return spacing.index(max(spacing))


# -- the cache ---------------------------------------------------------------------------------


def cache_key(
    cases: Sequence[PairCase], preparation: Preparation, slices: int | None, seed: int
) -> str:
    """Changes with the preparation, the files (by size and time) and the version of this format."""
    facts: list[Any] = [CACHE_FORMAT, preparation.model_dump(mode="json"), slices, seed]
    for case in cases:
        facts.append(case.name)
        for side in (case.fixed, case.moving):
            for path in (side.image, side.labels, side.mask, side.points):
                facts.append(None if path is None else [str(path), *_stamp(path)])
            facts += [side.modality, side.frame]
            if side.stored is not None or side.counted_from is not None:
                facts += [str(side.stored), side.counted_from]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def save_store(path: Path, store: PairStore, key: str) -> None:
    """Write a store for the next start; a full disk costs a warning, not the run."""
    tensors: dict[str, Tensor] = {}
    items = []
    for number, item in enumerate(store.items):
        entry: dict[str, Any] = {"spacing": item.spacing, "pair": item.pair}
        for side in ("fixed", "moving"):
            sample = getattr(item, side)
            entry[side] = sample.modality
            for name in TENSORS:
                if (value := getattr(sample, name)) is not None:
                    tensors[f"{number}/{side}/{name}"] = value
        items.append(entry)
    about = json.dumps({"items": items, "names": store.names})
    try:
        make_folder(path.parent)
        save_tensors(path, tensors, {"format": CACHE_FORMAT, "key": key, "about": about})
    except OutputError as error:
        log.warning("the prepared pairs are not kept: %s", error)


def load_store(path: Path, key: str) -> PairStore | None:
    """Read what ``save_store`` wrote, if it is there, intact and made from the same inputs."""
    if not path.exists():
        return None
    try:
        tensors, metadata = load_tensors(path)
    except InputError:
        return None
    if metadata.get("format") != CACHE_FORMAT or metadata.get("key") != key:
        return None
    try:
        return _stored(tensors, json.loads(metadata["about"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):  # damaged
        return None


def _stored(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> PairStore:
    store = PairStore(names=about["names"])
    for number, entry in enumerate(about["items"]):
        sides = [
            StoredSample(
                tensors[f"{number}/{side}/image"],
                tensors.get(f"{number}/{side}/labels"),
                tensors.get(f"{number}/{side}/mask"),
                tensors.get(f"{number}/{side}/points"),
                entry[side],
            )
            for side in ("fixed", "moving")
        ]
        store.items.append(Item(sides[0], sides[1], tuple(entry["spacing"]), entry["pair"]))
    return store


def open_store(
    cases: Sequence[PairCase],
    preparation: Preparation,
    *,
    slices: int | None,
    seed: int,
    threads: int,
    cache: Path | None,
    report: Callable[[int, int], None] | None = None,
) -> PairStore:
    """The prepared pairs of ``cases``: from ``cache`` if it fits, else prepared and kept there."""
    key = cache_key(cases, preparation, slices, seed)
    if cache is not None and (stored := load_store(cache, key)) is not None:
        return stored
    store = prepare_cases(
        cases, preparation, slices=slices, seed=seed, threads=threads, report=report
    )
    if cache is not None:
        save_store(cache, store, key)
    return store
