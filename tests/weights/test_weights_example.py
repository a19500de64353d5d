"""A stranger's distribution from its source to somebody else's machine, by installed commands.

Its author installs it editable, trains it on data that its own reader lists, ships the weights in
its wheel, and publishes them on a Hub on 127.0.0.1. A user in another environment installs the
wheel and registers without a request; a third has a wheel without weights, and pulls them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from loopback_hub import Hub
from weights_toy import GUARD, ROOT

EXAMPLE = ROOT / "tests" / "third_party" / "regtool_example"
NAME = "example-slide-phantom-2d"
REPOSITORY = "lab/example-slide"
TOKEN = "hf_write"
PREFIXES = ("REGTOOL_", "HF_", "PYTHON", "PIP_", "COV_")
TIMEOUT = 1200
"""Seconds for one command: each takes a few, more where many processes share the cores."""
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")


@dataclass(frozen=True)
class Machine:
    """A fresh environment with regtool in it, a home of its own, and a folder to work in."""

    folder: Path
    hub: str

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / ("Scripts" if os.name == "nt" else "bin")

    @property
    def packages(self) -> Path:
        """Where this environment's own packages are."""
        (found,) = (self.folder / "venv").glob("**/site-packages")
        return found

    def set_up(self) -> None:
        """Make the environment; torch and the like are those of the running one."""
        venv.create(self.folder / "venv")
        with_theirs = "".join(
            f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()
        )
        (self.packages / "running.pth").write_text(f"import only_loopback\n{with_theirs}")
        (self.packages / "only_loopback.py").write_text(GUARD)
        self.pip("install", "--editable", str(ROOT))  # its wheel is tested elsewhere

    def pip(self, verb: str, *words: str) -> None:
        self._run([sys.executable, "-m", "pip", "--python", str(self.bin / "python"),
                   "--disable-pip-version-check", verb, "--quiet", *OFFLINE, *words])  # fmt: skip

    def regtool(self, *words: str | Path, **changes: str) -> str:
        """Run the installed command; what it printed."""
        return self._run([str(self.bin / "regtool"), *map(str, words)], **changes)

    def record(self, name: str) -> dict:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def _run(self, command: list[str], **changes: str) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(PREFIXES)}
        own = {
            "HF_ENDPOINT": self.hub, "HF_HOME": str(self.folder / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1", "REGTOOL_THREADS": "1", "REGTOOL_DEVICE": "cpu",
        }  # fmt: skip
        done = subprocess.run(
            command, cwd=self.folder, env={**kept, **own, **changes}, capture_output=True,
            text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def service() -> Iterator[Hub]:
    """A Hub that knows the author's token and has nothing yet."""
    running = Hub(tokens={TOKEN})
    server = running.start()
    yield running
    server.shutdown()
    server.server_close()


def machine(folder: Path, service: Hub) -> Machine:
    pytest.importorskip("hatchling", reason="the build backend is absent: pip install hatchling")
    made = Machine(folder, service.url)
    made.set_up()
    return made


@pytest.fixture(scope="module")
def author(service: Hub, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The author's machine: the source installed editable, and a network trained."""
    made = machine(tmp_path_factory.mktemp("author"), service)
    shutil.copytree(EXAMPLE, made.folder / "source")
    made.pip("install", "--editable", "source")
    for seed in (1, 2):
        folder = Path("hearts") / f"heart{seed}"
        made.regtool("demo", "--kind", "heart2d", "--seed", str(seed), "-o", folder)
    made.regtool(
        "train", "-m", "example-slide", "--data", "example-folders:hearts?val=0.5", "-o", "run",
        "--steps", "6", "--batch", "1", "--set", "val_every=3",
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def shipped(author: Machine) -> Path:
    """A wheel with the weights in it."""
    (trained,) = (author.folder / "run" / "weights").iterdir()
    package = author.folder / "source" / "regtool_example"
    shutil.copytree(trained, package / "weights" / NAME)
    plugin = package / "trained.py"
    text = plugin.read_text(encoding="utf-8")
    text = text.replace("import Method, hookimpl", "import Method, WeightsRef, hookimpl")
    sha256 = hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()
    reference = (
        f'WeightsRef(name="{NAME}", ndim=2, anatomy="generated heart", modality="cine MR", '
        f'licence="Apache-2.0", sha256="{sha256}")'
    )
    text = text.replace("        presets={", f"        weights=({reference},),\n        presets={{")
    plugin.write_text(text, encoding="utf-8")
    return wheel(author, "1.2.3")


def wheel(author: Machine, version: str) -> Path:
    """Build the distribution under a version; the file."""
    project = author.folder / "source" / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace('version = "1.2.3"', f'version = "{version}"'))
    author.pip("wheel", "--wheel-dir", "dist", "./source")
    (built,) = (author.folder / "dist").glob(f"regtool_example-{version}-*.whl")
    return built


@pytest.fixture(scope="module")
def light(author: Machine, shipped: Path) -> Path:
    """The weights published, and a wheel that has their pin in their place."""
    pushed = author.regtool("weights", "push", NAME, REPOSITORY, "--json", HF_TOKEN=TOKEN)
    package = author.folder / "source" / "regtool_example"
    assert json.loads(pushed)["written"] == str(package / "trained.py")
    shutil.rmtree(package / "weights")
    return wheel(author, "1.2.4")


@pytest.fixture(scope="module")
def user(service: Hub, shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Another environment, with the wheel that has the weights."""
    made = machine(tmp_path_factory.mktemp("user"), service)
    made.pip("install", str(shipped))
    made.regtool("demo", "--kind", "heart2d", "--seed", "9", "-o", "new")
    return made


@pytest.fixture(scope="module")
def by_shipped(user: Machine, service: Hub) -> dict:
    """The record of a registration by the weights in the wheel."""
    before = len(service.requests)
    record = register(user, "shipped_")
    assert len(service.requests) == before
    return record


def register(machine: Machine, prefix: str, **changes: str) -> dict:
    """Register the new heart by the example's default weights; the record."""
    machine.regtool(
        "register", "-m", "example-slide", "new/fixed.nii.gz", "new/moving.nii.gz", "-o", prefix,
        **changes,
    )  # fmt: skip
    return machine.record(f"{prefix}regtool.json")


def test_the_wheel_has_all_and_nothing_else(shipped: Path) -> None:
    names = set(zipfile.ZipFile(shipped).namelist())
    code = {"__init__", "network", "options", "plugin", "reader", "slide", "trained"}
    expected = {f"regtool_example/{name}.py" for name in code} | {
        f"regtool_example/weights/{NAME}/{name}"
        for name in ("README.md", "config.json", "model.safetensors")
    }
    info = "regtool_example-1.2.3.dist-info/"
    assert {name for name in names if not name.startswith(info)} == expected
    points = zipfile.ZipFile(shipped).read(f"{info}entry_points.txt").decode()
    assert "[regtool.methods]" in points and "[regtool.readers]" in points


def test_everything_is_listed(user: Machine) -> None:
    listed = json.loads(user.regtool("plugins", "list", "--json"))
    assert {(row["name"], row["kind"], row["error"]) for row in listed} >= {
        ("example-shift", "method", None),
        ("example-slide", "method", None),
        ("example-folders", "reader", None),
    }


def test_what_its_own_reader_lists_was_trained_on(author: Machine) -> None:
    settings = (author.folder / "run" / "settings.json").read_text(encoding="utf-8")
    assert "example-folders:hearts?val=0.5" in settings
    with (author.folder / "run" / "log.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows if row["kind"] == "train"][-1] == "6"
    validated = [row for row in rows if row["kind"] == "val"]
    assert validated and all(row["dice_1"] for row in validated)  # the reader's labels


def test_a_user_registers_by_the_weights_in_the_wheel(user: Machine, by_shipped: dict) -> None:
    used = by_shipped["weights"]
    assert (used["name"], used["source"], used["pinned"]) == (NAME, "shipped", True)
    assert Path(user.folder, used["path"]).is_relative_to(user.packages)
    assert by_shipped["method"] == {
        "name": "example-slide",
        "distribution": "regtool-example 1.2.3",
    }


def test_another_user_pulls_them_and_gets_the_same(
    user: Machine, by_shipped: dict, light: Path, service: Hub
) -> None:
    """Another home folder, so another cache, and a wheel without weights."""
    assert not [name for name in zipfile.ZipFile(light).namelist() if "weights" in name]
    user.pip("install", "--force-reinstall", str(light))
    other = {"HF_HOME": str(user.folder / "another home")}
    (row,) = json.loads(user.regtool("weights", "list", "example-slide", "--json", **other))
    assert (row["hub"], row["source"]) == (REPOSITORY, None)
    (pulled,) = json.loads(user.regtool("weights", "pull", NAME, "--json", **other))
    assert Path(pulled["folder"]).is_relative_to(other["HF_HOME"])
    assert pulled["revision"] == service.branches[REPOSITORY, "main"]
    service.requests.clear()
    by_pulled = register(user, "pulled_", **other)
    assert service.requests == []  # the cache is enough
    assert by_pulled["weights"]["source"] == "cache"
    assert by_pulled["weights"]["sha256"] == by_shipped["weights"]["sha256"]
    assert by_pulled["method"]["distribution"] == "regtool-example 1.2.4"
    warped = [(user.folder / f"{p}Warped.nii.gz").read_bytes() for p in ("shipped_", "pulled_")]
    assert warped[0] == warped[1]
