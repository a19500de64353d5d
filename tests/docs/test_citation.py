"""The README says how to cite: every paper of a method, and regtool at its version."""

from __future__ import annotations

import re
from pathlib import Path

from regtool import __version__
from regtool.plugins import discovery

ROOT = Path(__file__).parents[2]


def test_every_paper_is_named_with_its_link() -> None:
    cite = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## How to cite\n")[2]
    cite = cite.partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+) \|$", cite, re.MULTILINE))
    own = {e.name for e in discovery.available() if e.distribution == "regtool"}
    papers = {name: discovery.load(name).paper for name in own}
    assert rows.keys() == {name for name, paper in papers.items() if paper is not None}
    for name, row in rows.items():
        paper = papers[name]
        assert paper is not None
        assert f"[{paper.title}]({paper.url})" in row and row.endswith(str(paper.year))
    assert f"version = {{{__version__}}}" in cite
