"""A method whose weights lie on a loopback Hub alone, and commands that want them at once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load_cases import pixels, write_image

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY, NAME = "someone/afar", "afar-2d"

PLUGIN = """
from regtool.api import Method, WeightsRef, hookimpl

@hookimpl
def regtool_method():
    return Method(
        name="afar", summary="VoxelMorph from afar.", paper=None, licence="Apache-2.0", ndim=(2,),
        model={model!r}, options={options!r}, presets={{}},
        weights=(
            WeightsRef(
                name={name!r}, ndim=2, anatomy="heart", modality="MR", licence="CC0",
                sha256={sha256!r}, hub={hub!r}, revision={revision!r},
            ),
        ),
    )
"""


def afar_files() -> dict[str, bytes]:
    """The weights of VoxelMorph in two dimensions, as those of another method."""
    folder = ROOT / "weights" / "voxelmorph-acdc-2d"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"method": "afar", "name": NAME}
    model = (folder / "model.safetensors").read_bytes()
    return {"config.json": json.dumps(config).encode(), "model.safetensors": model}


def install(site: Path, model: bytes, revision: str) -> None:
    """Put the method and its metadata into a folder for PYTHONPATH."""
    from regtool.plugins import discovery

    like = discovery.load("voxelmorph")
    package, info = site / "regtool_afar", site / "regtool_afar-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(PLUGIN.format(
        model=like.model, options=like.options, name=NAME, hub=REPOSITORY, revision=revision,
        sha256=hashlib.sha256(model).hexdigest(),
    ))  # fmt: skip
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: regtool-afar\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[regtool.methods]\nafar = regtool_afar.plugin\n")


@dataclass(frozen=True)
class Afar:
    """A folder with the method installed, a pair of images, and an empty cache."""

    folder: Path
    url: str

    @classmethod
    def make(cls, folder: Path, hub: Any) -> Afar:
        """Publish the weights and install the method."""
        from weights_toy import GUARD

        files = afar_files()
        commit = hub.add(REPOSITORY, files)
        install(folder / "site", files["model.safetensors"], commit)
        (folder / "site" / "sitecustomize.py").write_text(GUARD)
        for number, name in ((3, "fixed.nii"), (12, "moving.nii")):
            write_image(folder / name, pixels(number))
        return cls(folder, hub.url)

    @property
    def cache(self) -> Path:
        """The Hub cache of the commands."""
        return self.folder / "home" / "hub"

    def environment(self) -> dict[str, str]:
        """That of the commands: the loopback Hub, the cache, one thread."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("REGTOOL_", "HF_"))}
        return kept | {
            "PYTHONPATH": os.pathsep.join([str(self.folder / "site"), kept.get("PYTHONPATH", "")]),
            "REGTOOL_LOAD_PLUGINS": "afar", "REGTOOL_THREADS": "1", "OMP_NUM_THREADS": "1",
            "HF_ENDPOINT": self.url, "HF_HOME": str(self.folder / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip

    def register(self, number: int) -> list[str]:
        """The arguments of one registration with outputs of its own."""
        return ["register", "-m", "afar", "fixed.nii", "moving.nii", "-o", f"r{number}_"]

    def at_once(self, commands: list[list[str]]) -> list[tuple[int, str, str]]:
        """Run commands at the same moment; code, output and errors of each."""
        orders = [
            {
                "args": args,
                "out": str(self.folder / f"{k}.out"),
                "err": str(self.folder / f"{k}.err"),
            }
            for k, args in enumerate(commands)
        ]
        (self.folder / "orders.json").write_text(json.dumps(orders))
        script = Path(__file__).with_name("at_once.py")
        done = subprocess.run(
            [sys.executable, str(script), "orders.json"], cwd=self.folder, env=self.environment(),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        texts = [tuple(Path(o[s]).read_text() for s in ("out", "err")) for o in orders]
        return [(code, *text) for code, text in zip(json.loads(done.stdout), texts, strict=True)]

    def check_cache(self) -> None:
        """Two files, each once, whole; their names; nothing that waits to be completed."""
        files = [p for p in self.cache.rglob("*") if p.is_file() and not p.is_symlink()]
        blobs = [p for p in files if p.parent.name == "blobs"]
        sums = {hashlib.sha256(content).hexdigest() for content in afar_files().values()}
        assert {p.name for p in blobs} == sums
        assert {hashlib.sha256(p.read_bytes()).hexdigest() for p in blobs} == sums
        links = sorted(p.name for p in self.cache.rglob("*") if p.is_symlink())
        assert links == ["config.json", "model.safetensors"]
        rest = [p for p in files if p not in blobs and p.suffix != ".lock"]
        assert all(p.name == "CACHEDIR.TAG" or p.parent.name == "refs" for p in rest), rest
