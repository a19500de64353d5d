"""The toy method of these tests: its plugin, its network, and commands run with it installed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warm_cli import WarmProcess

REPOSITORY = "someone/toy"
ROOT = Path(__file__).resolve().parents[2]

NETWORK = """
import torch

class Toy(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.first = torch.nn.Conv2d(2, features, 3)
        self.norm = torch.nn.BatchNorm2d(features)

def build(config):
    return Toy(**config["network"])
"""

PLUGIN = """
from regtool.plugins.description import Method, WeightsRef
from regtool.plugins.hookspec import hookimpl

@hookimpl
def regtool_method():
    return Method(
        name="toy", summary="A toy.", paper=None, licence="MIT", ndim=(2,),
        model="regtool_toy.network:build", options="regtool_toy.network:Toy",
        recipe="regtool_toy.network:build",
        presets={{"small": {{"ndim": 2, "network": {{"features": 4}}, "preparation": {{}}}}}},
        weights=(
            WeightsRef(
                name="toy-brain", ndim=2, anatomy="brain", modality="MR", licence="CC0",
                sha256={sha256!r}{pin},
            ),
        ),
    )
"""

# The program's own error handling around these commands alone.
ALONE = """
from regtool.cli import app, weights
app.create = lambda: weights.app
"""
RUNNER = ALONE + "app.main()\n"

# Connections to anything but this machine are refused in every process that a test starts.
GUARD = """
import socket
_connect, _look_up = socket.socket.connect, socket.getaddrinfo
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise RuntimeError(f"a test connects to {address}")
    return _connect(self, address)
def look_up(host, *arguments, **keywords):
    if host not in ("127.0.0.1", "::1", "localhost", None):
        raise RuntimeError(f"a test looks up {host}")
    return _look_up(host, *arguments, **keywords)
socket.socket.connect, socket.getaddrinfo = connect, look_up
"""


def toy_config(**changes: Any) -> dict[str, Any]:
    """A sound config.json, with changes."""
    config = {
        "schema": 1, "method": "toy", "api": 1, "name": "toy-brain", "ndim": 2,
        "network": {"features": 4}, "preparation": {},
    }  # fmt: skip
    return config | changes


def toy_network(features: int = 4) -> Any:
    """The network of NETWORK, with reproducible values."""
    import torch

    namespace: dict[str, Any] = {}
    exec(NETWORK, namespace)
    torch.manual_seed(0)
    return namespace["build"]({"network": {"features": features}})


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a new folder and return it."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@dataclass
class Outcome:
    """What a finished command left behind."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def error(self) -> str:
        """The one line of an expected error, and nothing like a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("regtool: error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@dataclass
class Shell:
    """The weights commands with the toy plugin installed: in forks, or in fresh processes."""

    folder: Path
    warm: WarmProcess
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """The Hub cache of these processes."""
        return self.folder / "home" / "hub"

    @property
    def plugin(self) -> Path:
        """The installed plugin's package."""
        return self.folder / "site" / "regtool_toy"

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """Start a command in a fresh process; ``changes`` are environment variables."""
        return subprocess.Popen(
            [sys.executable, "-c", RUNNER, *arguments],
            env=self.environment | changes, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *arguments: str, **changes: str) -> Outcome:
        """Run a command in a fork of a process that knows nothing yet of the Hub or the plugin."""
        begin = time.monotonic()
        site = self.folder / "site"
        here = f"import sys; sys.path.insert(0, {str(site)!r})\n"
        guard = (site / "sitecustomize.py").read_text()
        env = {"HF_HUB_OFFLINE": "0", **self.environment, **changes}
        ran = self.warm.run(list(arguments), self.folder, env, before=here + guard + ALONE)
        return Outcome(ran.code, ran.out, ran.err, time.monotonic() - begin)


def install_toy(site: Path, sha256: str, pin: str = "") -> None:
    """Put the toy plugin and its metadata into a folder for PYTHONPATH."""
    write_files(
        site / "regtool_toy",
        {
            "__init__.py": b"",
            "network.py": NETWORK.encode(),
            "plugin.py": PLUGIN.format(sha256=sha256, pin=pin).encode(),
        },
    )
    write_files(
        site / "regtool_toy-1.0.dist-info",
        {
            "METADATA": b"Metadata-Version: 2.1\nName: regtool-toy\nVersion: 1.0\n",
            "entry_points.txt": b"[regtool.methods]\ntoy = regtool_toy.plugin\n",
        },
    )
    (site / "sitecustomize.py").write_text(GUARD)


def environment(folder: Path, url: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "REGTOOL_"))}
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)]),
        "REGTOOL_LOAD_PLUGINS": "toy",
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
