"""Imports run one way: cli, engine, report, (prepare … record), (spatial … nn), errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {
    0: ("errors", "memory", "paths", "plain", "words"),
    1: ("spatial", "diffusion", "losses", "metrics", "nn"),
    2: ("prepare", "imaging", "data", "weights", "plugins", "record"),
    3: ("report",),
    4: ("engine",),
    5: ("cli",),
}
LEVEL = {part: level for level, parts in LEVELS.items() for part in parts}
FACADES = ("api", "testing")
"""Stand above the engine, for authors of plugins; nothing inside regtool imports them."""


def modules(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if "template" not in p.parts)


CORE = modules(ROOT / "regtool")
PLUGINS = sorted(p for p in (ROOT / "plugins").glob("regtool_*") if p.is_dir())


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything a module imports, inside functions too."""
    tree = ast.parse(path.read_text("utf-8"))
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            yield node.lineno, name
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)


def part_of(path: Path) -> str:
    """The part of regtool that a module belongs to."""
    return path.relative_to(ROOT / "regtool").parts[0].removesuffix(".py")


def test_every_part_has_a_level() -> None:
    known = {*LEVEL, *FACADES, "__init__", "__main__"}
    assert {part_of(path) for path in CORE} <= known


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downward(path: Path) -> None:
    part = part_of(path)
    if part in (*FACADES, "__init__", "__main__"):
        forbidden = {"cli"}
    else:
        forbidden = {p for p, level in LEVEL.items() if level > LEVEL[part]} | set(FACADES)
    if path.relative_to(ROOT).as_posix() == "regtool/cli/plugins.py":
        forbidden -= set(FACADES)
    for line, name in imported(path):
        parts = name.split(".")
        if parts[0] == "regtool" and len(parts) > 1:
            assert parts[1] not in forbidden, f"{path.name}:{line} imports {name} from above"


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_no_plugin(path: Path) -> None:
    names = {folder.name for folder in PLUGINS}
    for line, name in imported(path):
        assert name.split(".")[0] not in names, f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda p: p.name)
def test_plugins_import_the_api_only(folder: Path) -> None:
    for path in modules(folder):
        for line, name in imported(path):
            parts = name.split(".")
            where = f"{folder.name}/{path.name}:{line} imports {name}"
            if parts[0] == "regtool":
                assert parts[1:2] == ["api"], where
            if parts[0].startswith("regtool_"):
                assert parts[0] == folder.name, where


LIGHT = {"torch", "numpy", "SimpleITK", "nibabel", "huggingface_hub", "accelerate", "safetensors"}


@pytest.mark.parametrize(
    "path",
    [
        *modules(ROOT / "regtool" / "cli"),
        *(ROOT / "regtool" / "plugins" / f"{n}.py" for n in ("description", "discovery")),
        *(folder / "plugin.py" for folder in PLUGINS if (folder / "plugin.py").exists()),
        ROOT / "regtool" / "errors.py",
        ROOT / "regtool" / "__init__.py",
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_nothing_heavy_at_module_level(path: Path) -> None:
    """What ``--help`` and ``methods`` import."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & LIGHT, f"{path}:{node.lineno}"
