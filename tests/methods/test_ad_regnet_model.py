"""AD-RegNet as a method: passes, extras, uncertainty, files, conformance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from ad_regnet_tiny import EXTRAS, pair_of, registered, tiny, total
from registration_cases import make_grid, transform, write_pair
from safetensors.torch import save_file
from torch import Tensor
from warm_cli import run_fresh

from regtool.api import Pair, Sample
from regtool.plugins import discovery
from regtool.prepare.preparation import Preparation
from regtool.spatial.compose import compose
from regtool.spatial.jacobian import jacobian_determinant
from regtool.spatial.warp import warp
from regtool.testing import check_method
from regtool_ad_regnet.model import build
from regtool_ad_regnet.presets import AD_REGNET


def test_further_passes_look_at_what_was_warped():
    module, pair = tiny(), pair_of()
    first = total(registered(module, pair))
    warped = Pair(pair.fixed, Sample(warp(pair.moving.image, first), (1.0,) * 3))
    second = total(registered(module, warped))
    found = total(registered(module, pair, passes=2))
    assert torch.allclose(found, compose(first, second), atol=1e-6)
    assert not torch.allclose(found, first, atol=1e-3)


def test_the_record_says_how_each_level_looked():
    notes = registered(tiny(), pair_of()).notes["attention"]
    assert notes == {
        "level 0": "windows of 2 x 2 x 2, 1536 tokens",
        "level 1": "windows of 2 x 2 x 2, 192 tokens",
        "level 2": "dense, 24 tokens",
    }
    assert registered(tiny(attention=False), pair_of()).notes["attention"] == {}


def test_the_mask_of_the_fixed_image_counts_and_that_of_the_moving_is_owned_up_to():
    plain = registered(tiny(), pair_of())
    mask = torch.zeros(1, 1, 8, 12, 15)
    masked = registered(tiny(), pair_of(mask=mask))
    assert not torch.allclose(total(plain), total(masked), atol=1e-3)
    pair = pair_of()
    pair.moving.mask = mask
    told = registered(tiny(), pair)
    assert torch.equal(total(told), total(plain)) and "moving mask" in told.warnings[0]


def test_every_extra_is_on_the_images_grid_and_changes_no_field():
    module, pair = tiny(), pair_of()
    plain = registered(module, pair)
    found = registered(module, pair, samples=3, **dict.fromkeys(EXTRAS, True))
    assert torch.allclose(total(plain), total(found), atol=1e-6) and not plain.extras
    names = {
        f"Level{level}{name}"
        for level in (0, 1, 2)
        for name in ("Warp", "Jacobian", "Regions", "Weight", "Entropy", "Uncertainty", "Variance")
    } - {"Level2Weight"}  # the coarsest level is fused with nothing
    assert set(found.extras) == names
    for name, extra in found.extras.items():
        channels = 3 if name.endswith("Warp") else 1
        assert extra.tensor.shape == (1, channels, 8, 12, 15), name
        assert extra.kind == ("field" if channels == 3 else "map") and extra.level == 0
        assert torch.isfinite(extra.tensor).all(), name
        if name.endswith(("Regions", "Weight", "Entropy")):
            assert extra.tensor.min() >= 0 and extra.tensor.max() <= 1 + 1e-5, name
    assert torch.allclose(found.extras["Level0Warp"].tensor, total(plain), atol=1e-6)
    field = found.extras["Level2Warp"].tensor
    expected = jacobian_determinant(field)[:, None]
    assert torch.equal(found.extras["Level2Jacobian"].tensor, expected)
    assert not torch.allclose(expected, torch.ones(()), atol=1e-3)


@pytest.mark.parametrize("one", EXTRAS)
def test_each_extra_is_asked_for_by_itself(one):
    module, pair = tiny(), pair_of((8, 8, 8))
    kinds = {"levels": ["Warp"], "attention": ["Regions", "Weight"], "entropy": ["Entropy"],
             "jacobian": ["Jacobian"], "uncertainty": ["Uncertainty", "Variance"]}  # fmt: skip
    found = registered(module, pair, samples=2, **{one: True}).extras
    assert {name[len("Level0") :] for name in found} == set(kinds[one])


def test_uncertainty_by_hand():
    """Mean squared difference to the fixed image, and variance, of warps with dropped channels."""
    module, pair = tiny(), pair_of((8, 8, 8))
    found = registered(module, pair, seed=3, uncertainty=True, samples=4, dropout=0.4)
    generator, network = torch.Generator().manual_seed(3), module.network
    warps = []
    with torch.no_grad():
        for _ in range(4):
            features = network.features(pair.fixed.image, pair.moving.image)

            def drop(maps: Tensor) -> Tensor:
                kept = torch.rand(1, maps.shape[1], 1, 1, 1, generator=generator) >= 0.4
                return maps * kept / 0.6

            fields = network.synthesise(features, (8, 8, 8), drop=drop)
            warps.append(warp(pair.moving.image, fields.displacement))
    stacked = torch.stack(warps)
    apart = (stacked - pair.fixed.image).square().mean(0)
    assert torch.allclose(found.extras["Level0Uncertainty"].tensor, apart, atol=1e-6)
    assert torch.allclose(found.extras["Level0Variance"].tensor, stacked.var(0), atol=1e-6)
    assert found.extras["Level0Variance"].tensor.max() > 1e-6
    again = registered(module, pair, seed=3, uncertainty=True, samples=4, dropout=0.4)
    other = registered(module, pair, seed=4, uncertainty=True, samples=4, dropout=0.4)
    key = "Level0Variance"
    assert torch.equal(found.extras[key].tensor, again.extras[key].tensor)
    assert not torch.equal(found.extras[key].tensor, other.extras[key].tensor)


def test_presets_prepare_what_they_say():
    for name, preset in AD_REGNET.items():
        preparation = Preparation(**preset["preparation"])
        network = preset["network"]
        multiple = network["stem"] * 2 ** (len(network["widths"]) - 1)
        assert all(n is None or n % multiple == 0 for n in preparation.size), name
        assert preparation.multiple % multiple == 0, name
    assert Preparation(**AD_REGNET["paper-tiles"]["preparation"]).outside == "tiles"
    box = Preparation(**AD_REGNET["brain"]["preparation"])
    assert [n * s for n, s in zip(box.size, box.spacing, strict=True)] == [160, 224, 160]
    assert box.initial == "affine"


@pytest.fixture
def weights(tmp_path) -> Path:
    """A folder of weights whose field shows."""
    network = {**AD_REGNET["trial"]["network"], "widths": [4, 8], "compare": 4, "gate": 4,
               "flow_init": 0.02}  # fmt: skip
    preparation = {"orientation": "LPS", "spacing": [8, 6, 6], "size": [16, 16, 16]}
    config = {
        "schema": 1, "method": "ad-regnet", "api": 1, "name": "bare", "ndim": 3,
        "preset": "trial", "network": network, "preparation": preparation, "options": {},
    }  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(build(config).state_dict(), folder / "model.safetensors")
    return folder


def test_extras_come_as_files_and_go_into_the_report(weights, tmp_path):
    """Through the command line: names, grids, the record's notes, the page."""
    grid = make_grid("flipped")
    write_pair(tmp_path, grid, grid, transform(shift=(2.0, -3.0, 1.0)))
    flags = [word for name in EXTRAS for word in ("--set", f"{name}=true")]
    fixed = tmp_path / "fixed.nii.gz"
    run_fresh(
        ["register", "-m", "ad-regnet", "-w", str(weights), str(fixed),
         str(tmp_path / "moving.nii.gz"), "-o", str(tmp_path / "a_"), "--threads", "1",
         "--report", str(tmp_path / "a.html"), "--set", "samples=2", "--set", "passes=1", *flags],
        tmp_path,
    ).ok()  # fmt: skip
    written = {p.name.removeprefix("a_").removesuffix(".nii.gz") for p in tmp_path.glob("a_Level*")}
    kinds = ("Warp", "Jacobian", "Regions", "Entropy", "Uncertainty", "Variance")
    assert written == {f"Level{n}{k}" for n in (0, 1) for k in kinds} | {"Level0Weight"}
    record = json.loads((tmp_path / "a_regtool.json").read_text())
    assert record["attention"] == {"level 0": "dense, 512 tokens", "level 1": "dense, 64 tokens"}
    image, level, whole = (
        sitk.ReadImage(str(p))
        for p in (fixed, tmp_path / "a_Level0Warp.nii.gz", tmp_path / "a_1Warp.nii.gz")
    )
    assert level.GetSize() == image.GetSize() and level.GetOrigin() == image.GetOrigin()
    apart = np.abs(sitk.GetArrayFromImage(level) - sitk.GetArrayFromImage(whole))
    assert apart.max() < 1e-3 < np.abs(sitk.GetArrayFromImage(whole)).max()
    page = (tmp_path / "a.html").read_text()
    assert all(name in page for name in written)


def test_tiles_of_the_preparation_are_blended_by_core(weights, tmp_path):
    """``outside: tiles``: an image larger than the network's box, every part of it answered."""
    import regtool
    from regtool.imaging.reading import read_image

    config = json.loads((weights / "config.json").read_text())
    config["preparation"] |= {"spacing": [5, 4, 4], "outside": "tiles", "overlap": 0.25}
    (weights / "config.json").write_text(json.dumps(config))
    grid = make_grid("identity", size=(24, 20, 16), spacing=(4.0, 4.0, 5.0))
    write_pair(tmp_path, grid, grid, transform(shift=(2.0, -3.0, 1.0)))
    fixed, moving = (read_image(tmp_path / f"{name}.nii.gz") for name in ("fixed", "moving"))
    found = regtool.register(fixed, moving, "ad-regnet", weights=str(weights))
    field = np.asarray(found.field)
    assert field.shape == (16, 20, 24, 3) and np.isfinite(field).all()
    corner = np.abs(field).max(-1)
    assert min(corner[0, 0, 0], corner[-1, -1, -1], corner[0, -1, 0]) > 0


def test_conformance():
    bare = replace(discovery.load("ad-regnet"), weights=())
    check_method(bare, shapes={3: (8, 16, 16)}, options={"passes": 2}, steps=60)
