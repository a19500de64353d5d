"""The site builds without a warning, says everything the program knows, and needs no connection."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from regtool.cli.app import create
from regtool.errors import RegtoolError
from regtool.plugins import discovery

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers.python", "latex2mathml")
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href"), ("source", "src")}
"""Where a browser fetches something without being asked."""


class Page(HTMLParser):
    """Anchors, links and fetched addresses of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)
                if (tag, name) in LOADED and dict(attrs).get("rel") not in ("canonical",):
                    self.fetched.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors and without pictures."""
    missing = [name for name in NEEDED if not _installed(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} absent: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder),
         "-f", str(ROOT / "docs" / "mkdocs" / "mkdocs.yml")],
        env={**os.environ, "REGTOOL_DOCS_PICTURES": "false", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@cache
def page(path: Path) -> Page:
    return Page(path)


def pages(site: Path) -> list[Path]:
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]


def text(path: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8")))


def test_every_link_leads_somewhere(site: Path) -> None:
    """Links in raw HTML, too, which the build itself does not check."""
    broken = []
    for path in pages(site):
        for link in page(path).links:
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif anchor and target.suffix == ".html":
                found = page(target).anchors
                if unquote(anchor) not in found and anchor != "__top":
                    broken.append(f"{path.relative_to(site)}: {link} (no such place in the page)")
    assert not broken, "\n".join(broken[:20])


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in pages(site):
        outside = [link for link in page(path).fetched if re.match(r"(https?:)?//", link)]
        assert not outside, f"{path.relative_to(site)}: {outside}"
    for sheet in site.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import\s+)['\"]?(https?:|//)", sheet.read_text("utf-8"))
        assert not addresses, sheet


def test_the_search_works_from_files(site: Path) -> None:
    script = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    index = json.loads(script.removeprefix("var __index = "))
    places = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"commands/register.html", "methods/voxelmorph.html", "geometry.html"} <= places
    assert "iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")


def test_every_command_has_its_options_on_a_page(site: Path) -> None:
    program = typer.main.get_command(create())
    names = list(program.commands)  # type: ignore[attr-defined]
    assert {"register", "apply", "train"} <= set(names)
    for name in names:
        command = program.commands[name]  # type: ignore[attr-defined]
        shown = text(site / "commands" / f"{name}.html")
        for each in (command, *getattr(command, "commands", {}).values()):
            for parameter in each.params:
                flags = [flag for flag in parameter.opts if flag.startswith("-")]
                assert all(flag in shown for flag in flags), f"{name}: {flags}"
                assert (getattr(parameter, "help", None) or "")[:40] in shown, f"{name}: {flags}"


def public_names() -> dict[str, list[str]]:
    """The public names of each module, without importing torch: ``__all__``, or its functions."""
    found = {}
    for file in [*(ROOT / "regtool" / "api").glob("*.py"), ROOT / "regtool/testing/__init__.py"]:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        nodes = ast.parse(file.read_text(encoding="utf-8")).body
        functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
        found[module] = [name for name in functions if not name.startswith("_")]
        for node in nodes:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[module] = ast.literal_eval(node.value)
    return found


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    names = public_names()
    expected = {"", ".nn", ".losses", ".spatial", ".diffusion", ".train", ".presets", ".sampling",
                ".refine", ".external"}  # fmt: skip
    assert {f"regtool.api{part}" for part in expected} | {"regtool.testing"} <= set(names)
    for module, listed in names.items():
        anchors = page(site / "reference" / f"{module}.html").anchors
        missing = [name for name in listed if f"{module}.{name}" not in anchors]
        assert not missing, f"{module}: {missing}"
        assert module in page_text(site / "api.html")


@cache
def page_text(path: Path) -> str:
    return text(path)


def test_every_method_has_its_page(site: Path) -> None:
    from regtool.plugins.options import describe_options

    ours = [e.name for e in discovery.available() if e.distribution == "regtool"]
    assert len(ours) >= 12
    overview = page_text(site / "methods" / "index.html")
    for name in ours:
        method = discovery.load(name)
        shown = page_text(site / "methods" / f"{name}.html")
        assert name in overview
        options = describe_options(discovery.resolve_import(method.options))
        assert all(option.name in shown for option in options), name
        assert all(weights.name in shown for weights in method.weights), name
        if method.paper is not None:
            assert method.paper.title in shown
        if name in ("optimise", "voxelmorph", "syn"):  # from the README's tables
            assert "Our numbers" in shown and "0.572 (0.082)" in shown, name


def test_every_method_s_idea_is_written_down(site: Path) -> None:
    for entry in discovery.available():
        if entry.distribution != "regtool":
            continue
        idea = ROOT / "docs" / "methods" / f"{entry.name}.md"
        assert idea.is_file(), f"{idea} is missing: the idea, the equations, the paper's numbers"
        html = (site / "methods" / f"{entry.name}.html").read_text(encoding="utf-8")
        assert "<math" in html and "arithmatex" not in html, entry.name


def test_exit_codes_are_those_of_the_errors() -> None:
    def below(kind: type[RegtoolError]) -> set[type[RegtoolError]]:
        return {kind}.union(*(below(k) for k in kind.__subclasses__()))

    rows = re.findall(
        r"^\| (\d+) \|([^|]*)\|", (ROOT / "docs/exit-codes.md").read_text("utf-8"), re.M
    )
    table = {name: int(code) for code, cell in rows for name in re.findall(r"`(\w+)`", cell)}
    kinds = {k for k in below(RegtoolError) if k.__module__ == "regtool.errors"} - {RegtoolError}
    assert table == {kind.__name__: kind.exit_code for kind in kinds}
    assert {int(code) for code, _ in rows} == {0, 1, *table.values()}
