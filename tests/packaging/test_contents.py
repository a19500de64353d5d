"""The wheel and the sdist hold what belongs into them, and nothing else."""

from __future__ import annotations

import configparser
import re
import zipfile
from email.parser import Parser
from pathlib import Path

from tree_cases import ROOT, build, copy_tree, names_of, project

from regtool.plugins import discovery
from regtool.weights.files import file_sha256

INFO = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE")
WEIGHTS = {"README.md", "config.json", "model.safetensors"}
TOPS = {"docs", "plugins", "regtool", "tests", "weights", "benchmarks", ".ci"}
LOOSE = {".gitignore", "CHANGELOG.md", "LICENSE", "NOTICE", "PKG-INFO", "README.md",
         "pyproject.toml"}  # fmt: skip
SUFFIXES = {".py", ".md", ".j2", ".js", ".css", ".template", ".typed"}
JUNK = (
    "runs/a/log.txt", ".venv-ci/pyvenv.cfg", "build/lib/x.py", "dist/old.whl", ".coverage",
    "regtool/__pycache__/a.cpython-311.pyc", "plugins/regtool_vtn/__pycache__/b.pyc",
    ".pytest_cache/README.md", ".mypy_cache/3.11/a.json", "regtool.egg-info/PKG-INFO",
    "notes.txt", "scratch/try.py", "image.nii.gz", "mine.mha",
)  # fmt: skip


def in_wheel(names: list[str]) -> set[str]:
    """Where each file of the repository that is to be installed comes to lie."""
    placed = set()
    for name in names:
        top, _, rest = name.partition("/")
        if top == "regtool":
            placed.add(name)
        elif top == "plugins":
            placed.add(rest)
        elif top == "weights":
            folder, _, file = rest.partition("/")
            place = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
            placed.add(f"{place[f'weights/{folder}']}/{file}")
    return placed


def test_the_wheel_has_every_file_and_no_other(wheel: Path, names: list[str]) -> None:
    version = project()["project"]["version"]
    info = {f"regtool-{version}.dist-info/{name}" for name in INFO}
    assert set(names_of(wheel)) == in_wheel(names) | info
    assert wheel.name == f"regtool-{version}-py3-none-any.whl"


def test_the_wheel_has_only_kinds_of_files_that_are_used(wheel: Path) -> None:
    weights: dict[str, set[str]] = {}
    for name in names_of(wheel):
        if ".dist-info/" in name:
            continue
        assert re.match(r"regtool(_\w+)?/", name), name
        found = re.fullmatch(r"(regtool_\w+/weights/[\w-]+)/(.+)", name)
        if found:
            weights.setdefault(found[1], set()).add(found[2])
        else:
            assert Path(name).suffix in SUFFIXES, name
            assert not name.startswith("regtool/tests") and "__pycache__" not in name
    assert weights and all(files == WEIGHTS for files in weights.values()), weights
    assert "regtool/py.typed" in names_of(wheel)


def test_what_lies_about_in_a_tree_is_left_out(
    tmp_path: Path, source: Path, names: list[str], wheel: Path, sdist: Path
) -> None:
    untidy = copy_tree(tmp_path / "untidy", names, start=source)
    for name in JUNK:
        (untidy / name).parent.mkdir(parents=True, exist_ok=True)
        (untidy / name).write_text("left")
    assert names_of(build(untidy, tmp_path / "w", "wheel")) == names_of(wheel)
    assert names_of(build(untidy, tmp_path / "s", "sdist")) == names_of(sdist)


def test_the_sdist_has_the_sources_and_no_more(sdist: Path, names: list[str]) -> None:
    held = set(names_of(sdist))
    assert held == set(names) | {"PKG-INFO"}
    assert {name.partition("/")[0] for name in held} == TOPS | LOOSE


def test_each_method_and_its_weights_are_packed(wheel: Path) -> None:
    held = set(names_of(wheel))
    entries = project()["project"]["entry-points"]["regtool.methods"]
    for name, module in entries.items():
        assert f"{module.replace('.', '/')}.py" in held, module
        for ref in discovery.load(name).weights:
            package = module.partition(".")[0]
            model = f"{package}/weights/{ref.name}/model.safetensors"
            assert model in held or (ref.hub and ref.revision), f"{ref.name} is nowhere"
            if model in held:
                assert ref.sha256 == file_sha256(ROOT / "weights" / ref.name / "model.safetensors")


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"regtool-{project()['project']['version']}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        points = configparser.ConfigParser()
        points.read_string(archive.read(f"{info}/entry_points.txt").decode())
        for name in ("LICENSE", "NOTICE"):
            assert archive.read(f"{info}/licenses/{name}") == (ROOT / name).read_bytes()
    assert metadata["Requires-Python"] == ">=3.11"
    assert points["console_scripts"]["regtool"] == "regtool.cli.app:main"
    assert (
        dict(points["regtool.methods"]) == project()["project"]["entry-points"]["regtool.methods"]
    )
    classifiers = metadata.get_all("Classifier") or []
    assert {c.rpartition(" :: ")[2] for c in classifiers if "Python :: 3" in c} == {
        "3.11", "3.12", "3.13"
    }  # fmt: skip
    assert "Typing :: Typed" in classifiers
