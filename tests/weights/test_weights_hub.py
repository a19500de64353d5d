"""Pinned weights from the Hub: cache first, bounded waiting, every failure in words."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loopback_hub import Hub
from weights_toy import REPOSITORY, toy_config, write_files

from regtool.errors import WeightsError
from regtool.plugins.description import Method
from regtool.weights import ResolvedWeights, resolve


def from_hub(method: Method, hub: Hub, cache: Path, spec: str | None = None) -> ResolvedWeights:
    return resolve(method, spec, 2, endpoint=hub.url, cache_dir=cache)


def test_hub_then_cache_without_a_request(
    published: Method, hub: Hub, tmp_path: Path, toy_sha256: str
) -> None:
    cold = from_hub(published, hub, tmp_path)
    assert (cold.source, cold.hub, cold.sha256) == ("hub", REPOSITORY, toy_sha256)
    assert cold.revision == published.weights[0].revision
    assert hub.methods() == ["HEAD", "HEAD", "GET", "HEAD", "GET"]
    assert not any("README" in path for _, path in hub.requests)
    before = sorted((p, p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
    hub.requests.clear()
    warm = from_hub(published, hub, tmp_path)
    assert (warm.source, warm.model, warm.pinned) == ("cache", cold.model, True)
    assert hub.requests == []
    assert sorted((p, p.lstat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_hand_made_cache(
    published: Method, tmp_path: Path, toy_files: dict[str, bytes], dead_url: str
) -> None:
    commit = published.weights[0].revision
    assert commit is not None
    write_files(tmp_path / "models--someone--toy" / "snapshots" / commit, toy_files)
    weights = resolve(published, None, 2, endpoint=dead_url, cache_dir=tmp_path, offline=True)
    assert weights.source == "cache"


@pytest.mark.parametrize("offline", [False, True])
def test_cold_miss_is_fast_and_helps(
    published: Method, tmp_path: Path, dead_url: str, offline: bool
) -> None:
    begin = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        resolve(published, None, 2, offline=offline, endpoint=dead_url, cache_dir=tmp_path)
    assert time.monotonic() - begin < 2
    message = str(caught.value)
    assert "regtool weights pull toy-brain --to FOLDER" in message
    assert "REGTOOL_WEIGHTS_DIR=FOLDER" in message
    assert ("switched off" if offline else "Connection refused") in message


def test_an_endpoint_that_swallows_everything_is_given_up(
    published: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*address: object, timeout: float) -> None:
        time.sleep(2 * timeout)
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", swallow)
    begin = time.monotonic()
    with pytest.raises(WeightsError, match=r"no answer within 1\.5 s"):
        resolve(published, None, 2, endpoint="http://127.0.0.1:9", cache_dir=tmp_path)
    assert time.monotonic() - begin < 2.5


def test_damaged_cache_is_named(published: Method, hub: Hub, tmp_path: Path) -> None:
    model = from_hub(published, hub, tmp_path).model
    assert model is not None
    whole = model.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:100]):
        model.resolve().write_bytes(damaged)
        for spec in (None, f"hub:{REPOSITORY}@{published.weights[0].revision}"):
            with pytest.raises(WeightsError, match="regtool weights pull") as caught:
                from_hub(published, hub, tmp_path, spec)
            assert str(model) in str(caught.value)


def test_damage_on_the_way_is_noticed(published: Method, hub: Hub, tmp_path: Path) -> None:
    hub.faults.corrupt_byte = True
    with pytest.raises(WeightsError, match="damaged on the way"):
        from_hub(published, hub, tmp_path)


def test_unpinned_download_is_compared_with_its_etag(
    toy_method: Method, hub: Hub, tmp_path: Path
) -> None:
    hub.faults.corrupt_byte = True
    with pytest.raises(WeightsError, match="damaged on the way"):
        from_hub(replace(toy_method, weights=()), hub, tmp_path, f"hub:{REPOSITORY}")


def test_branch_is_used_with_a_warning(
    toy_method: Method, hub: Hub, tmp_path: Path, dead_url: str
) -> None:
    commit = hub.branches[REPOSITORY, "main"]
    weights = from_hub(toy_method, hub, tmp_path, f"hub:{REPOSITORY}@main")
    assert weights.revision == commit
    assert f"hub:{REPOSITORY}@{commit}" in weights.warnings[0]
    assert "not pinned" in weights.warnings[0]
    # pinned by its commit: nothing to warn about, nothing to ask
    hub.requests.clear()
    pinned = from_hub(toy_method, hub, tmp_path, f"hub:{REPOSITORY}@{commit}")
    assert (pinned.warnings, hub.requests) == ((), [])
    with pytest.raises(WeightsError, match="hub:someone/toy@main: not on this machine"):
        resolve(
            toy_method, f"hub:{REPOSITORY}@main", 2,
            cache_dir=tmp_path / "empty", endpoint=dead_url,
        )  # fmt: skip


def test_hub_reference_equal_to_the_pin_is_checked_against_it(
    published: Method, hub: Hub, tmp_path: Path
) -> None:
    spec = f"hub:{REPOSITORY}@{published.weights[0].revision}"
    assert from_hub(published, hub, tmp_path, spec).pinned
    wrong = replace(published, weights=(replace(published.weights[0], sha256="0" * 64),))
    with pytest.raises(WeightsError, match="expected 000000000000"):
        from_hub(wrong, hub, tmp_path, spec)


@pytest.mark.parametrize(
    ("fault", "value", "words"),
    [
        ("status", 500, "the Hub answered 500"),
        ("status", 429, "the Hub answered 429"),
        ("status", 401, "not authorised"),
        ("gated", True, "access is restricted"),
        ("drop_etag", True, "does not answer like a Hub"),
        ("drop_commit", True, "does not answer like a Hub"),
    ],
)
def test_failures_of_the_hub_in_words(
    published: Method, hub: Hub, tmp_path: Path, fault: str, value: object, words: str
) -> None:
    setattr(hub.faults, fault, value)
    begin = time.monotonic()
    with pytest.raises(WeightsError, match=words) as caught:
        from_hub(published, hub, tmp_path)
    assert time.monotonic() - begin < 4
    assert "\n" not in str(caught.value)


def test_a_busy_hub_is_asked_again(published: Method, hub: Hub, tmp_path: Path) -> None:
    hub.faults.busy = 2
    assert from_hub(published, hub, tmp_path).source == "hub"


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_file(
    published: Method, hub: Hub, tmp_path: Path, toy_files: dict[str, bytes], missing: str
) -> None:
    commit = hub.add(REPOSITORY, {k: v for k, v in toy_files.items() if k != missing})
    with pytest.raises(WeightsError, match=r"lacks model\.safetensors or config\.json"):
        from_hub(published, hub, tmp_path, f"hub:{REPOSITORY}@{commit}")


def test_missing_revision_and_repository(published: Method, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such revision"):
        from_hub(published, hub, tmp_path, f"hub:{REPOSITORY}@{'0' * 40}")
    with pytest.raises(WeightsError, match="no such repository"):
        from_hub(published, hub, tmp_path, "hub:someone/else")


def test_weights_of_another_method_on_the_hub(
    published: Method, hub: Hub, tmp_path: Path, toy_files: dict[str, bytes]
) -> None:
    config = json.dumps(toy_config(method="other")).encode()
    commit = hub.add("someone/other", toy_files | {"config.json": config})
    with pytest.raises(WeightsError, match="weights of method 'other'"):
        from_hub(published, hub, tmp_path, f"hub:someone/other@{commit}")


def test_cache_that_cannot_be_written(published: Method, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=r"cannot write to the Hub cache.*HF_HUB_CACHE"):
        from_hub(published, hub, tmp_path / "file" / "cache")


@pytest.mark.slow
def test_cut_body(published: Method, hub: Hub, tmp_path: Path) -> None:
    hub.faults.cut_body = True
    with pytest.raises(WeightsError, match="not on this machine; someone/toy@") as caught:
        from_hub(published, hub, tmp_path)
    assert "\n" not in str(caught.value)
