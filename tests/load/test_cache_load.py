"""Eight registrations and six pulls at once, from an empty cache of weights."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_cases import NAME, Afar

from regtool.weights.files import file_sha256

OUTPUTS = ("Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat")


@pytest.fixture
def hub() -> Iterator:
    """A Hub on this machine."""
    from loopback_hub import Hub

    service = Hub()
    server = service.start()
    yield service
    server.shutdown()
    server.server_close()


@pytest.fixture
def afar(tmp_path: Path, hub) -> Afar:
    """The method, and nothing in the cache; a body takes its time, so that all want it at once."""
    hub.faults.pause = 0.5
    return Afar.make(tmp_path, hub)


def test_eight_registrations_from_an_empty_cache(afar: Afar, hub) -> None:
    ran = afar.at_once([afar.register(k) for k in range(8)])
    assert [code for code, _, _ in ran] == [0] * 8, ran
    assert not any("Traceback" in err for _, _, err in ran)
    assert hub.methods().count("GET") == 2, "each file is fetched once"
    afar.check_cache()
    for name in OUTPUTS:
        sums = {file_sha256(afar.folder / f"r{k}_{name}") for k in range(8)}
        assert len(sums) == 1, name
    assert not [p for p in afar.folder.iterdir() if p.name.startswith(".")]


def test_six_pulls_of_one_weight(afar: Afar, hub) -> None:
    ran = afar.at_once([["weights", "pull", NAME]] * 6)
    assert [code for code, _, _ in ran] == [0] * 6, ran
    assert len({out for _, out, _ in ran}) == 1 and {err for _, _, err in ran} == {""}
    assert hub.methods().count("GET") == 2
    afar.check_cache()


def test_one_is_killed_in_the_middle_of_its_download(afar: Afar, hub) -> None:
    """Its lock goes with it; those after it begin anew and leave a whole cache."""
    hub.faults.pause = 20.0
    command = [sys.executable, "-m", "regtool.cli.app", "weights", "pull", NAME]
    process = subprocess.Popen(
        command, cwd=afar.folder, env=afar.environment(), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not asked_for_model(hub) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # half of the body is on its way
    process.kill()
    process.wait()
    assert asked_for_model(hub), "it was to be hit in the middle"
    assert not list(afar.cache.rglob("model.safetensors"))
    hub.faults.pause = 0.0
    ran = afar.at_once([["weights", "pull", NAME]] * 3)
    assert [code for code, _, _ in ran] == [0] * 3, ran
    afar.check_cache()


def asked_for_model(hub) -> bool:
    """Whether a body of the model has been begun."""
    return any(method == "GET" and "model" in path for method, path in list(hub.requests))
