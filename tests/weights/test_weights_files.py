"""Headers, configurations and hashes: sound files pass, everything else gets one clear sentence."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weights_toy import toy_config

from regtool.errors import WeightsError
from regtool.plugins.description import Method
from regtool.weights import file_sha256, read_config, read_header


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_header_of_a_sound_file(toy_folder: Path) -> None:
    tensors = read_header(toy_folder / "model.safetensors")
    assert tensors["first.weight"].shape == (4, 2, 3, 3)
    assert tensors["first.weight"].dtype == "F32"
    assert tensors["norm.num_batches_tracked"].shape == ()
    assert not tensors["norm.num_batches_tracked"].floating


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a complete safetensors file"),
        (b"\x01", "not a complete safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a complete safetensors file"),
        (struct.pack("<Q", 2**30) + b" " * 100, "not a complete safetensors file"),
        (safetensors(b"{{{"), "not JSON"),
        (safetensors(b"[" * 100_000), "not JSON"),
        (safetensors([]), "no table"),
        (safetensors({}), "no tensors"),
        (safetensors({"a": 3}), "damaged safetensors header at 'a'"),
        (safetensors({"a": {"dtype": "F32"}}), "damaged safetensors header at 'a'"),
        (safetensors({"a": entry("F8_E4M3", [1], 0, 1)}, b"1"), "type F8_E4M3"),
        (safetensors({"a": entry("F32", [10**12], 0, 4)}, b"1234"), "absurd shape"),
        (safetensors({"a": entry("F32", [-1], 0, 4)}, b"1234"), "absurd shape"),
        (safetensors({"a": entry("F32", [1.5], 0, 4)}, b"1234"), "absurd shape"),
        (safetensors({"a": entry("F32", [1] * 9, 0, 4)}, b"1234"), "absurd shape"),
        (safetensors({"a": entry("F32", [2], 0, 4)}, b"1234"), "does not fit its bytes"),
        (safetensors({"a": entry("F32", [1], 0, 4)}, b"123"), "truncated or overlong"),
        (safetensors({"a": entry("F32", [1], 0, 4)}, b"12345"), "truncated or overlong"),
        (
            safetensors({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"123"),
            "overlapping",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"PK\x03\x04" + b"0" * 40, "pickle"),
        (b"\x80\x02}q\x00." + b"0" * 40, "pickle"),
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_truncation_is_noticed(
    tmp_path: Path, toy_files: dict[str, bytes], data: st.DataObject
) -> None:
    whole = toy_files["model.safetensors"]
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(WeightsError):
        read_header(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=60), length=st.integers(0, 60))
def test_no_bytes_at_all_escape_as_another_error(
    tmp_path: Path, content: bytes, length: int
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + content)
    with pytest.raises(WeightsError):
        read_header(path)


def test_header_agrees_with_the_safetensors_library(toy_folder: Path) -> None:
    from safetensors import safe_open

    path = toy_folder / "model.safetensors"
    with safe_open(path, "pt") as library:
        shapes = {name: tuple(library.get_slice(name).get_shape()) for name in library.keys()}  # noqa: SIM118
    assert {name: info.shape for name, info in read_header(path).items()} == shapes


def test_hash(toy_folder: Path, toy_sha256: str, tmp_path: Path) -> None:
    assert file_sha256(toy_folder / "model.safetensors") == toy_sha256
    with pytest.raises(WeightsError, match="cannot be read"):
        file_sha256(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a table"),
        ("{}", "no regtool weights"),
        (json.dumps(toy_config(schema=2)), "update regtool"),
        (json.dumps(toy_config(schema="1")), "no regtool weights"),
        (json.dumps(toy_config(api=99)), "api 99"),
        (json.dumps(toy_config(method="other")), "weights of method 'other', not of 'toy'"),
        (json.dumps(toy_config(method=None)), "'method' is missing"),
        (json.dumps(toy_config(network=[])), "'network' is missing or not of type dict"),
        (json.dumps(toy_config(preparation=3)), "'preparation' is missing"),
        (json.dumps(toy_config(ndim=3)), "3-D, which method 'toy' does not do"),
        (" " * (2**20 + 1), "too large"),
    ],
)
def test_bad_configurations_are_refused(
    tmp_path: Path, toy_method: Method, content: str, words: str
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=words) as caught:
        read_config(path, toy_method, 2)
    assert "\n" not in str(caught.value)


def test_configuration_for_other_images(toy_folder: Path, toy_method: Method) -> None:
    both = replace(toy_method, ndim=(2, 3))
    with pytest.raises(WeightsError, match="for 2-D images, these images are 3-D"):
        read_config(toy_folder / "config.json", both, 3)
    assert read_config(toy_folder / "config.json", both, 2)["network"] == {"features": 4}


def test_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing; weights are a model\.safetensors with its"):
        read_config(tmp_path / "config.json")


def test_a_header_of_a_length_that_begins_like_a_pickle(tmp_path):
    """0x80 starts every pickle, and the length of each 32nd safetensors header."""
    import torch
    from safetensors.torch import save_file

    found = set()
    for words in range(0, 400, 8):
        path = tmp_path / f"{words}.safetensors"
        save_file({"a": torch.ones(2)}, path, metadata={"word": "x" * words})
        first = path.read_bytes()[0]
        found.add(first)
        assert list(read_header(path)) == ["a"], first
    assert 0x80 in found
