"""Fields for training: from a method, from records, cached, and refused where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import regtool
from regtool.data.readers import open_data
from regtool.engine.training.dataset import prepare_case, prepare_cases
from regtool.engine.training.field_files import RecordFields
from regtool.engine.training.fields import open_source, with_fields
from regtool.engine.training.store import PairStore
from regtool.errors import InputError, Interrupted, UsageError, WeightsError
from regtool.imaging.transforms import read_field
from regtool.plugins.exchange import Pair
from regtool.prepare.chain import chain_displacement
from regtool.prepare.preparation import Preparation
from regtool.spatial.compose import compose
from regtool.spatial.warp import warp
from regtool.testing.pairs import shifted_pair

FREE_2D = {"spacing": (None, None), "size": (None, None), "multiple": 1}
BOX_2D = {"spacing": (2.0, 2.0), "size": (32, 40), "anchor": "motion"}
PLACE = {"device": "cpu", "threads": 1, "seed": 0, "slices": None}
FAST = {"preset": "fast"}


@pytest.fixture(scope="module")
def cases():
    return open_data("phantom:heart2d?n=2&size=48")


def store_of(cases: Any, preparation: dict[str, Any]) -> PairStore:
    return prepare_cases(cases, Preparation.model_validate(preparation))


def silent(done: int, total: int) -> None:
    return None


def gain(pair: Pair) -> float:
    """Part of the squared difference that the pair's field takes away."""
    assert pair.field is not None
    before = (pair.fixed.image - pair.moving.image).square().mean()
    after = (pair.fixed.image - warp(pair.moving.image, pair.field)).square().mean()
    return float(1 - after / before)


@pytest.mark.parametrize("preparation", [FREE_2D, BOX_2D])
def test_a_method_gives_fields_in_both_directions(cases, preparation):
    store = store_of(cases, preparation)
    source = open_source(
        "optimise", FAST, cases, store, Preparation.model_validate(preparation), **PLACE
    )
    found = with_fields(store, source, "key", None, silent)
    for swap in (False, True):
        pair = found.batch([(0, swap), (1, swap)], torch.device("cpu"))
        assert pair.field is not None and pair.field.shape == (2, 2, *pair.fixed.image.shape[2:])
        assert gain(pair) > 0.5
    both = found.items[0].fields
    assert both is not None and both[0].dtype == torch.float16


def test_an_affine_start_is_part_of_the_field(cases):
    """A method whose preparation aligns first answers with the whole displacement."""
    store = PairStore()
    store.add("shifted", shifted_pair((48, 64), (3, -5)))
    source = open_source("affine", {}, cases, store, Preparation.model_validate(FREE_2D), **PLACE)
    u, v = source.both(0)
    middle = (0, slice(None), 24, 32)
    assert u[middle].tolist() == pytest.approx([3.0, -5.0], abs=0.3)
    assert v[middle].tolist() == pytest.approx([-3.0, 5.0], abs=0.3)


def test_statistics_are_those_of_both_directions():
    store = PairStore()
    image = torch.rand(2, 1, 4, 6)
    from regtool.plugins.exchange import Sample

    store.add("a", Pair(Sample(image, (1.0, 1.0)), Sample(image, (1.0, 1.0))))
    assert store.field_statistics is None
    drawn = torch.randn(2, 2, 2, 4, 6).half()
    given = store.with_fields([(drawn[0, b], drawn[1, b]) for b in range(2)])
    flat = drawn.double().movedim(2, 0).flatten(1)
    found = given.field_statistics
    assert found is not None
    assert found["mean"] == pytest.approx(flat.mean(1).tolist())
    assert found["std"] == pytest.approx(flat.std(1, correction=0).tolist())
    assert given.fingerprint != store.fingerprint and given.nbytes == store.nbytes + 4 * 4 * 24
    moved = given.to(torch.device("cpu")).batch([(1, True)], torch.device("cpu"))
    assert torch.equal(moved.field, drawn[1, 1][None].float())


class Counting:
    """A source that counts what it is asked for."""

    def __init__(self, facts: str = "facts") -> None:
        self.facts, self.asked = facts, []

    def both(self, number: int):
        self.asked.append(number)
        return torch.full((1, 2, 48, 48), 1.0 + number), torch.full((1, 2, 48, 48), -1.0 - number)


def test_fields_are_kept_between_runs(cases, tmp_path):
    store, cache = store_of(cases, FREE_2D), tmp_path / "fields.safetensors"
    first = Counting()

    def stops(done: int, total: int) -> None:
        if done == 1:
            raise Interrupted("enough")

    with pytest.raises(Interrupted):
        with_fields(store, first, "key", cache, stops)
    second = Counting()
    found = with_fields(store, second, "key", cache, silent)
    assert (first.asked, second.asked) == ([0], [1])
    third = Counting()
    again = with_fields(store, third, "key", cache, silent)
    assert third.asked == []
    for one, other in zip(found.items, again.items, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.fields, other.fields, strict=True))
    for changed, key in ((Counting("others"), "key"), (Counting(), "other")):
        with_fields(store, changed, key, cache, silent)
        assert changed.asked == [0, 1]


def test_a_field_that_is_no_number_is_refused(cases):
    store, source = store_of(cases, FREE_2D), Counting()
    source.both = lambda number: (torch.full((1, 2, 48, 48), float("nan")),) * 2
    with pytest.raises(InputError, match="not finite"):
        with_fields(store, source, "key", None, silent)


def test_records_of_a_cohort_give_the_fields_of_both_directions(cases, tmp_path):
    """On another grid than the images': the same displacement in millimetres."""
    preparation = Preparation.model_validate(BOX_2D)
    case = cases[0]
    for name, fixed, moving in (
        ("there", case.fixed, case.moving),
        ("back", case.moving, case.fixed),
    ):
        regtool.register(
            fixed.image, moving.image, "optimise", output=tmp_path / f"{name}_", settings=FAST
        )
    source = RecordFields(tmp_path, cases, preparation, None, 0)
    u, v = source.both(0)
    prepared = prepare_case(case, preparation, None, 0)
    for found, name in ((u, "there"), (v, "back")):
        field, _ = read_field(tmp_path / f"{name}_1Warp.nii.gz")
        assert torch.allclose(found, prepared.network_displacement(field), atol=1e-3)
    pair = prepared.pair
    assert gain(Pair(pair.fixed, pair.moving, u)) > 0.5
    assert gain(Pair(pair.moving, pair.fixed, v)) > 0.5
    (tmp_path / "back_regtool.json").unlink()
    inverted = RecordFields(tmp_path, cases, preparation, None, 0).both(0)[1]
    assert compose(u, inverted)[..., 4:-4, 4:-4].abs().max() < 0.05
    with pytest.raises(InputError, match="no record of"):
        source.both(1)


def test_records_fit_pairs_that_training_aligns_first(cases, tmp_path):
    """The network sees the moving image through the initial transform; its field is the rest."""
    preparation = Preparation.model_validate({**BOX_2D, "initial": "affine"})
    case = cases[0]
    regtool.register(
        case.fixed.image, case.moving.image, "optimise", output=tmp_path / f"{case.name}_",
        settings=FAST, initial="affine",
    )  # fmt: skip
    u, _ = RecordFields(tmp_path, cases, preparation, None, 0).both(0)
    prepared = prepare_case(case, preparation, None, 0)
    field, _ = read_field(tmp_path / f"{case.name}_1Warp.nii.gz")
    assert not np.allclose(prepared.initial, np.eye(3))
    assert torch.allclose(u, prepared.network_displacement(field), atol=2e-2)


def test_a_chain_is_composed_like_its_parts():
    from regtool.spatial.grid import Grid

    grid = Grid((6, 5, 4), (1.5, 2.0, 3.0), tuple(np.eye(3).ravel()), (10.0, -3.0, 7.0))
    shift = np.eye(4)
    shift[:3, 3] = (3.0, -4.0, 6.0)
    field = np.zeros((4, 5, 6, 3), dtype=np.float32)
    field[..., 0] = 1.5
    found = chain_displacement(grid, [(field, grid), shift])
    assert torch.allclose(
        found, torch.tensor([2.0, -2.0, 3.0])[:, None, None, None].expand(3, 4, 5, 6)
    )
    assert chain_displacement(grid, []).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        ("nothing", {}, "neither a folder nor a method"),
        ("fsdiffreg", {}, "has no weights"),
        (str(Path(__file__).parent), FAST, "takes no fields_options"),
        ("optimise", {"speed": 3}, "unknown option"),
    ],
)
def test_what_is_no_source_is_a_usage_error(cases, spec, options, words):
    store = store_of(cases[:1], FREE_2D)
    with pytest.raises((UsageError, WeightsError), match=words):
        open_source(spec, options, cases, store, Preparation.model_validate(FREE_2D), **PLACE)


def test_a_folder_of_records_at_home(cases, tmp_path, monkeypatch):
    (tmp_path / "records").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    preparation = Preparation.model_validate(FREE_2D)
    source = open_source("~/records", {}, cases[:1], store_of(cases[:1], FREE_2D), preparation,
                         **PLACE)  # fmt: skip
    assert isinstance(source, RecordFields) and source.folder == tmp_path / "records"
