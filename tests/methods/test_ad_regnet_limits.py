"""AD-RegNet and volumes that are too large or too short: tiles, estimates, refusals."""

from __future__ import annotations

import pytest
import torch
from ad_regnet_tiny import options, pair_of, registered, tiny, total

from regtool import memory
from regtool.api import DeviceError, Pair, Sample, UsageError
from regtool_ad_regnet.memory import GIB, check, needed
from regtool_ad_regnet.model import build
from regtool_ad_regnet.presets import AD_REGNET


def test_tiles_are_blended_and_one_tile_is_the_whole():
    module = tiny(window=4)
    mask = torch.zeros(1, 1, 16, 16, 20)
    mask[:, :, :, 8:] = 1
    pair = pair_of((16, 16, 20), mask=mask)
    tiled = registered(module, pair, tile=16)
    assert total(tiled).shape == (1, 3, 16, 16, 20) and torch.isfinite(total(tiled)).all()
    left = Pair(*(Sample(s.image[..., :16], (1.0,) * 3) for s in (pair.fixed, pair.moving)))
    # Voxels that no other tile covers have the tile's own answer.
    unmasked = total(registered(module, left))[..., :4]
    assert not torch.allclose(total(tiled)[..., :4], unmasked, atol=1e-3)
    left.fixed.mask = mask[..., :16]
    expected = total(registered(module, left))[..., :4]
    assert torch.allclose(total(tiled)[..., :4], expected, atol=1e-5)
    whole = registered(module, pair_of((12, 16, 15)))
    assert torch.allclose(total(whole), total(registered(module, pair_of((12, 16, 15)), tile=64)))
    assert tiled.notes["attention"]["level 0"].endswith("4096 tokens")


def test_extras_of_tiles_are_refused():
    with pytest.raises(UsageError, match="extras need the whole volume"):
        registered(tiny(), pair_of(), tile=32, levels=True)


def test_too_large_a_volume_is_refused_before_anything_is_computed(monkeypatch):
    module = build(AD_REGNET["brain"]).eval()
    monkeypatch.setattr(module.network, "features", None)
    image = torch.zeros(1, 1, 1, 1, 1).expand(1, 1, 512, 512, 512)
    pair = Pair(Sample(image, (1.0,) * 3), Sample(image, (1.0,) * 3))
    with pytest.raises(DeviceError) as caught:
        registered(module, pair, memory=3)
    sentence = str(caught.value)
    assert sentence.startswith("512 x 512 x 512 voxels need about ")
    assert "3.0 GiB are allowed" in sentence and "\n" not in sentence
    assert caught.value.exit_code == 6
    # What it says would fit does.
    smaller = tuple(map(int, sentence.split("; ")[1].split(" would fit")[0].split(" x ")))
    tile = int(sentence.split("--set tile=")[1].rstrip(")"))
    check(module.network, smaller, options(memory=3), torch.device("cpu"))
    check(module.network, (512,) * 3, options(memory=3, tile=tile), torch.device("cpu"))
    with pytest.raises(DeviceError, match=f"in tiles of {2 * tile + 64} need"):
        check(
            module.network,
            (512,) * 3,
            options(memory=3, tile=2 * tile + 64),
            torch.device("cpu"),
        )


def test_the_estimate_grows_with_size_width_and_what_is_asked():
    with torch.device("meta"):
        paper, small = (build(AD_REGNET[name]).network for name in ("paper", "small"))
    size = (160, 192, 224)
    assert needed(paper, size, options()) < 12 * GIB
    assert needed(small, size, options()) < needed(paper, size, options())
    assert needed(paper, size, options(uncertainty=True)) > needed(paper, size, options())
    assert needed(paper, (160, 192, 225), options()) > needed(paper, size, options())
    with torch.autocast("cpu", torch.bfloat16):
        assert needed(paper, size, options()) < 5.5 * GIB
    check(paper, size, options(memory=12), torch.device("cpu"))


def test_a_volume_with_a_side_too_short_to_shrink_is_refused_as_well():
    with torch.device("meta"):
        network = build(AD_REGNET["brain"]).network
    with pytest.raises(DeviceError, match="24 x 256 x 256 voxels need about"):
        check(network, (24, 256, 256), options(memory=0.52), torch.device("cpu"))


def test_nothing_is_refused_where_the_system_does_not_tell(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("odd")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    check(tiny().network, (512, 512, 512), options(), torch.device("cpu"))
