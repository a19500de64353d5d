"""Finding methods from metadata: names, clashes, duplicates, limits, suggestions."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from fake_distributions import Site

from regtool.errors import PluginError, UsageError
from regtool.plugins import discovery


def entries(name: str) -> list[discovery.Entry]:
    return [entry for entry in discovery.available() if entry.name == name]


def test_an_entry_is_known_without_an_import(site: Site) -> None:
    module = site.add("quiet-one", distribution="Fake.Quiet", version="2.1")
    assert entries("quiet-one") == [discovery.Entry("quiet-one", module, "Fake.Quiet", "2.1")]
    assert module not in sys.modules


def test_names_are_sorted_and_single(site: Site) -> None:
    for name in ("zebra-fake", "aardvark-fake"):
        site.add(name)
    names = discovery.names()
    assert names == sorted(set(names))
    assert {"zebra-fake", "aardvark-fake"} <= set(names)


def test_two_distributions_with_one_name_are_told_apart_before_any_import(site: Site) -> None:
    explode = "raise RuntimeError('imported')\n"
    first = site.add("twice", distribution="fake-left", version="1.0", before=explode)
    second = site.add("twice", distribution="fake-right", version="3.0", before=explode)
    site.add("bystander")
    with pytest.raises(PluginError) as caught:
        discovery.load("twice")
    assert "fake-left 1.0" in str(caught.value)
    assert "fake-right 3.0" in str(caught.value)
    assert first not in sys.modules
    assert second not in sys.modules
    assert discovery.load("bystander").name == "bystander"


def test_one_distribution_may_not_claim_a_name_twice(site: Site) -> None:
    site.declare("fake-double", "1.0", "double = fake_a", "double = fake_b")
    with pytest.raises(PluginError, match="claimed by"):
        discovery.load("double")


def test_a_symlinked_folder_is_no_clash(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("linked")
    link = site.folder.with_name("lib64")
    link.symlink_to(site.folder, target_is_directory=True)
    monkeypatch.syspath_prepend(str(link))
    assert len(entries("linked")) == 1
    assert discovery.load("linked").name == "linked"


def test_an_installation_beside_its_source_tree_is_no_clash(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("doubled", version="1.0")
    copy = tmp_path / "source"
    shutil.copytree(site.folder, copy)
    (copy / "fake_doubled-1.0.dist-info").rename(copy / "Fake_Doubled.egg-info")
    (copy / "Fake_Doubled.egg-info/METADATA").rename(copy / "Fake_Doubled.egg-info/PKG-INFO")
    monkeypatch.syspath_prepend(str(copy))
    assert len(entries("doubled")) == 1


def test_damaged_metadata_of_one_distribution_leaves_the_others(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.declare("fake-damaged", "1.0", "no equals sign here")
    site.add("sound")
    with caplog.at_level("WARNING", "regtool"):
        assert discovery.load("sound").name == "sound"
    assert "fake-damaged" in caplog.text


def test_metadata_without_a_name_still_counts(site: Site) -> None:
    module = site.add("nameless")
    (site.folder / "fake_nameless-1.0.dist-info" / "METADATA").unlink()
    assert module in {entry.value for entry in entries("nameless")}


def test_an_unknown_method_gets_the_nearest_name(site: Site) -> None:
    site.add("fake-voxel-thing")
    for wrong in ("fake-voxel-thin", "Fake-Voxel-Thing"):
        with pytest.raises(UsageError, match="did you mean 'fake-voxel-thing'") as caught:
            discovery.load(wrong)
        assert caught.value.exit_code == 2
    with pytest.raises(UsageError) as caught:
        discovery.load("qqqqqqqqqq")
    assert "did you mean" not in str(caught.value)
    assert str(caught.value).endswith(f"installed are {', '.join(discovery.names())}")
    assert "fake-voxel-thing" in str(caught.value)


def test_none_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGTOOL_LOAD_PLUGINS", "")
    assert discovery.available() == []
    assert discovery.load_all() == ([], [])
    with pytest.raises(UsageError, match="no method is installed"):
        discovery.load("whatever-it-is")


@pytest.mark.parametrize("chosen", ["one", "fake-one", "FAKE_One, nothing", " one ,"])
def test_the_limit_takes_methods_and_distributions(
    site: Site, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    site.add("one")
    site.add("two")
    monkeypatch.setenv("REGTOOL_LOAD_PLUGINS", chosen)
    assert discovery.names() == ["one"]
    with pytest.raises(UsageError, match="left out by REGTOOL_LOAD_PLUGINS"):
        discovery.load("two")


def test_the_limit_settles_a_clash(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("twice", distribution="fake-left")
    site.add("twice", distribution="fake-right")
    monkeypatch.setenv("REGTOOL_LOAD_PLUGINS", "fake-right")
    assert discovery.find("twice").distribution == "fake-right"
