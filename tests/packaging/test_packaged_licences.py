"""Whoever gets the weights gets the terms of the data that they were trained on."""

from __future__ import annotations

import json
import re

import pytest
from tree_cases import ROOT, project

from regtool.plugins import discovery

FOLDERS = sorted(p.name for p in (ROOT / "weights").iterdir() if p.is_dir())


@pytest.mark.parametrize("name", FOLDERS)
def test_shipped_weights_say_their_licence_everywhere(name: str) -> None:
    methods = [discovery.load(n) for n in project()["project"]["entry-points"]["regtool.methods"]]
    (ref,) = [ref for method in methods for ref in method.weights if ref.name == name]
    card = (ROOT / "weights" / name / "README.md").read_text("utf-8")
    config = json.loads((ROOT / "weights" / name / "config.json").read_text("utf-8"))
    assert config["licence"] == ref.licence
    assert re.search(rf"^license: {re.escape(ref.licence.lower())}$", card, re.MULTILINE)
    assert re.search(rf"\b{re.escape(ref.licence)}\b", project()["project"]["license"])


@pytest.mark.parametrize("name", FOLDERS)
def test_the_notice_names_them(name: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", (ROOT / "NOTICE").read_text("utf-8"))


def test_the_distribution_names_no_other() -> None:
    cards = {
        json.loads((ROOT / "weights" / name / "config.json").read_text("utf-8"))["licence"]
        for name in FOLDERS
    }
    assert project()["project"]["license"].split(" AND ") == sorted(cards | {"Apache-2.0"})
