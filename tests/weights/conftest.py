"""A small method with weights, a loopback Hub, and the command line in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from loopback_hub import Hub
from warm_cli import WarmProcess
from weights_toy import (
    REPOSITORY,
    Shell,
    environment,
    install_toy,
    toy_config,
    toy_network,
    write_files,
)

from regtool.plugins.description import Method, WeightsRef


@pytest.fixture(scope="session")
def toy_files() -> dict[str, bytes]:
    """The three files of sound weights."""
    from safetensors.torch import save

    return {
        "README.md": b"---\nlicense: cc0-1.0\n---\n# Toy\n",
        "config.json": json.dumps(toy_config()).encode(),
        "model.safetensors": save(toy_network().state_dict()),
    }


@pytest.fixture(scope="session")
def toy_sha256(toy_files: dict[str, bytes]) -> str:
    """Hash of the model file."""
    return hashlib.sha256(toy_files["model.safetensors"]).hexdigest()


@pytest.fixture
def toy_folder(tmp_path: Path, toy_files: dict[str, bytes]) -> Path:
    """A folder of weights outside every place that is searched."""
    return write_files(tmp_path / "given" / "toy-brain", toy_files)


@pytest.fixture
def toy_method(toy_sha256: str) -> Method:
    """The description, as a plugin that is not installed would give it; not published."""
    ref = WeightsRef("toy-brain", 2, "brain", "MR", "CC0", toy_sha256)
    return Method(
        name="toy", summary="A toy.", paper=None, licence="MIT", ndim=(2,),
        model="regtool_no_such_toy.network:build", options="regtool_no_such_toy.network:Toy",
        recipe="regtool_no_such_toy.recipe:recipe", weights=(ref,),
        presets={"small": {"ndim": 2, "network": {"features": 4}, "preparation": {}}},
    )  # fmt: skip


@pytest.fixture
def hub(toy_files: dict[str, bytes]) -> Iterator[Hub]:
    """A running Hub with the toy's weights in one commit of ``main``."""
    service = Hub()
    server = service.start()
    service.add(REPOSITORY, dict(toy_files))
    yield service
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(toy_method: Method, hub: Hub) -> Method:
    """The description, pinned to the Hub's commit."""
    ref = replace(toy_method.weights[0], hub=REPOSITORY, revision=hub.branches[REPOSITORY, "main"])
    return replace(toy_method, weights=(ref,))


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No search folder, no token, no telemetry, no proxy from outside."""
    for name in list(os.environ):
        if name.startswith("REGTOOL_") or name.lower().endswith("_proxy") or name == "HF_TOKEN":
            monkeypatch.delenv(name)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def shell(tmp_path: Path, toy_sha256: str, hub: Hub, warm: WarmProcess) -> Shell:
    """Commands that see the toy plugin, pinned to the loopback Hub, and an empty cache."""
    commit = hub.branches[REPOSITORY, "main"]
    install_toy(tmp_path / "site", toy_sha256, f', hub="{REPOSITORY}", revision="{commit}"')
    return Shell(tmp_path, warm, environment(tmp_path, hub.url))


@pytest.fixture
def unpublished_shell(tmp_path: Path, toy_sha256: str, hub: Hub, warm: WarmProcess) -> Shell:
    """The same with a toy whose weights nobody has published."""
    install_toy(tmp_path / "site", toy_sha256)
    return Shell(tmp_path, warm, environment(tmp_path, hub.url))


@pytest.fixture
def dead_url() -> str:
    """An address on this machine at which nothing listens."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
