"""Pairs in memory: what a batch holds, which batch comes when, cache and slicing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import training_toy
from hypothesis import given
from hypothesis import strategies as st

from regtool.engine.training import dataset
from regtool.engine.training.store import Order, PairStore
from regtool.errors import InputError, UsageError
from regtool.imaging.volume import Volume
from regtool.plugins.exchange import Pair, Sample
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid

CPU = torch.device("cpu")


def _store(sizes: list[int], labels: bool = True) -> PairStore:
    store = PairStore()
    for number, size in enumerate(sizes):
        image = torch.rand(1, 1, size, size)
        found = (image > 0.5).long() if labels else None
        store.add(
            f"p{number}",
            Pair(
                Sample(image, (1.0, 2.0), labels=found), Sample(1 - image, (1.0, 2.0), labels=found)
            ),
        )
    return store


def test_batch_gives_back_what_was_stored() -> None:
    pair = training_toy.sample_pair(batch=3)
    store = PairStore()
    store.add("a", pair)
    assert len(store.items) == 3
    back = store.batch([(0, False), (1, True), (2, False)], CPU)
    torch.testing.assert_close(back.fixed.image[0], pair.fixed.image[0], atol=5e-4, rtol=0)
    torch.testing.assert_close(back.fixed.image[1], pair.moving.image[1], atol=5e-4, rtol=0)
    assert back.fixed.labels is not None and pair.moving.labels is not None
    assert torch.equal(back.fixed.labels[1], pair.moving.labels[1])
    assert back.fixed.image.dtype == torch.float32 and back.fixed.labels.dtype == torch.int64


def test_items_are_compact() -> None:
    item = _store([8]).items[0]
    assert item.fixed.image.dtype == torch.float16
    assert item.fixed.labels is not None and item.fixed.labels.dtype == torch.uint8


def test_large_labels_survive() -> None:
    pair = training_toy.sample_pair()
    assert pair.fixed.labels is not None
    pair.fixed.labels[0, 0, 0, :3] = torch.tensor([2035, 70000, 0])
    store = PairStore()
    store.add("a", pair)
    labels = store.batch([(0, False)], CPU).fixed.labels
    assert labels is not None and torch.equal(labels, pair.fixed.labels)


@given(count=st.integers(1, 9), batch=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_pair_comes_in_both_directions_each_epoch(count: int, batch: int, seed: int) -> None:
    order = Order(_store([8] * count).items, batch, seed, "s")
    for epoch in range(2):
        steps = range(epoch * order.per_epoch, (epoch + 1) * order.per_epoch)
        seen = Counter(entry for step in steps for entry in order.entries(step))
        assert set(seen) == {(k, swap) for k in range(count) for swap in (False, True)}
        assert all(len(order.entries(step)) == batch for step in steps)


def test_exchanged_pairs_have_their_sides_and_fields_in_each_others_place() -> None:
    store = _store([8, 8])
    fields = (torch.zeros(2, 8, 8), torch.ones(2, 8, 8))
    store = store.with_fields([fields, fields])
    for now, before in (
        (store.exchanged().batch([(1, False)], CPU), store.batch([(1, True)], CPU)),
        (store.exchanged().batch([(1, True)], CPU), store.batch([(1, False)], CPU)),
    ):
        assert torch.equal(now.fixed.image, before.fixed.image)
        assert torch.equal(now.moving.image, before.moving.image)
        assert now.field is not None and before.field is not None
        assert torch.equal(now.field, before.field)
    assert _store([8]).exchanged().items[0].fields is None


def test_order_needs_no_history() -> None:
    items = _store([8] * 5).items
    straight = Order(items, 2, 3, "s")
    all_entries = [straight.entries(step) for step in range(23)]
    assert Order(items, 2, 3, "s").entries(22) == all_entries[22]
    assert [Order(items, 2, 4, "s").entries(step) for step in range(5)] != all_entries[:5]


def test_items_of_different_shape_never_share_a_batch() -> None:
    store = _store([8, 8, 12, 8, 12])
    order = Order(store.items, 2, 0, "s")
    for step in range(2 * order.per_epoch):
        pair = store.batch(order.entries(step), CPU)  # would not stack otherwise
        assert pair.fixed.image.shape == pair.moving.image.shape


def test_no_items() -> None:
    with pytest.raises(ValueError, match="no items"):
        Order([], 1, 0, "s")


def test_blank_slices_are_left_out() -> None:
    pair = training_toy.sample_pair(batch=3)
    pair.fixed.image[1] = 0.25
    store = PairStore()
    store.add("a", pair)
    assert len(store.without_blank().items) == 2


def test_fingerprint_tells_other_pixels_apart() -> None:
    pair = training_toy.sample_pair()
    prints = []
    for _ in range(2):
        store = PairStore()
        store.add("a", pair)
        prints.append(store.fingerprint)
        pair.fixed.image[0, 0, 0, 0] += 0.5
    assert prints[0] != prints[1]


# -- from files ---------------------------------------------------------------------------------


def _preparation() -> Preparation:
    return Preparation.model_validate(training_toy.PRESET["preparation"])


def test_splits(table: Path) -> None:
    train, val = dataset.open_splits([str(table)], None)
    assert (len(train), len(val)) == (3, 2)


def test_val_of_its_own(table: Path, bare_table: Path) -> None:
    train, val = dataset.open_splits([str(table)], str(bare_table))
    assert len(train) == 3 and {case.fixed.image.parent for case in val} == {bare_table.parent}


def test_training_pairs_may_not_validate(table: Path, tmp_path: Path) -> None:
    only = table.parent / "only_train.csv"
    lines = table.read_text().splitlines()
    only.write_text("\n".join([lines[0], *(x for x in lines[1:] if x.endswith("train"))]))
    with pytest.raises(UsageError, match="also trained on"):
        dataset.open_splits([str(table)], str(only))
    both = table.parent / "both.csv"
    marked = [line.replace(",train", ",val") for line in lines if line.endswith(",train")]
    both.write_text("\n".join([*lines, *marked[:2]]))
    with pytest.raises(UsageError, match=r"--data \S+both.csv: 2 of its validation pairs are also"):
        dataset.open_splits([str(both)], None)


def test_training_pairs_may_not_validate_the_other_way_round(table: Path) -> None:
    """Both directions of every pair are trained."""
    names, *lines = table.read_text().splitlines()
    turned = table.parent / "turned.csv"
    columns = "moving,fixed,moving_labels,fixed_labels,split"
    turned.write_text("\n".join([columns, *(x for x in lines if x.endswith("train"))]))
    assert names == "fixed,moving,fixed_labels,moving_labels,split"
    with pytest.raises(UsageError, match=r"--val \S+turned.csv: 3 of its pairs are also trained"):
        dataset.open_splits([str(table)], str(turned))


def test_cache_is_used_until_a_file_changes(tmp_path: Path) -> None:
    table = training_toy.make_data(tmp_path)
    cases, _ = dataset.open_splits([str(table)], None)
    cache = tmp_path / "cache.safetensors"

    def open_() -> PairStore:
        return dataset.open_store(
            cases, _preparation(), slices=None, seed=0, threads=1, cache=cache
        )

    first = open_()
    stamp = cache.stat().st_mtime_ns
    again = open_()
    assert cache.stat().st_mtime_ns == stamp
    assert again.fingerprint == first.fingerprint and again.names == first.names
    cases[0].fixed.image.touch()
    open_()
    assert cache.stat().st_mtime_ns != stamp


def test_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    table = training_toy.make_data(tmp_path)
    cases, _ = dataset.open_splits([str(table)], None)
    cache = tmp_path / "cache.safetensors"
    cache.write_bytes(b"rubbish")
    store = dataset.open_store(cases, _preparation(), slices=None, seed=0, threads=1, cache=cache)
    assert len(store.items) == 3 and dataset.load_store(cache, "another key") is None


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    table = training_toy.make_data(tmp_path)
    cases, _ = dataset.open_splits([str(table)], None)
    cases[1].moving.image.write_bytes(b"rubbish")
    with pytest.raises(InputError, match=cases[1].moving.image.name):
        dataset.prepare_cases(cases, _preparation())


def _volume(*shape: int, spacing: tuple[float, ...] | None = None) -> Volume:
    n = len(shape)
    grid = Grid(shape[::-1], spacing or (1.0,) * n, tuple(np.eye(n).ravel()), (0.0,) * n)
    return Volume(np.zeros(shape, np.float32), grid)


def test_volumes_are_cut_along_their_widest_spacing() -> None:
    thick = _volume(6, 16, 16, spacing=(1.0, 1.0, 8.0))
    assert dataset.slicing_axis(thick, 2, None) == 0
    assert dataset.slicing_axis(thick, 2, -1) == 2
    assert dataset.slicing_axis(thick, 3, None) is None
    assert dataset.slicing_axis(_volume(16, 1, 16, spacing=(9.0, 1.0, 1.0)), 2, None) == 1
    with pytest.raises(UsageError, match="2-D"):
        dataset.slicing_axis(_volume(8, 8), 3, None)
    with pytest.raises(UsageError, match="axes 0, 1 and 2"):
        dataset.slicing_axis(thick, 2, 5)


def test_slices_of_a_volume_belong_to_one_pair(tmp_path: Path) -> None:
    import SimpleITK as sitk

    generator = np.random.default_rng(0)
    for name in ("f", "m"):
        image = sitk.GetImageFromArray(generator.random((4, 24, 24)).astype(np.float32))
        image.SetSpacing((1.0, 1.0, 6.0))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    (tmp_path / "t.csv").write_text("fixed,moving,split\nf.nii.gz,m.nii.gz,train\n")
    cases, _ = dataset.open_splits([str(tmp_path / "t.csv")], None)
    store = dataset.prepare_cases(cases, _preparation())
    assert len(store.items) == 4 and store.of_pair(0) == [0, 1, 2, 3]
    assert store.items[0].fixed.image.shape == (1, 24, 24)
