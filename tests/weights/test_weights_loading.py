"""Loading into a network: strict, readable when it fails, half precision widened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weights_toy import toy_network

from regtool.errors import WeightsError
from regtool.weights import load_into, load_state, network_differences, read_header


def test_round_trip(toy_folder: Path) -> None:
    source, target = toy_network(), toy_network()
    torch.nn.init.zeros_(target.first.weight)
    load_into(target, toy_folder / "model.safetensors")
    assert torch.equal(source.first.weight, target.first.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "model.safetensors"
    state = toy_network().state_dict()
    save_file({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}, path)
    loaded = load_state(path)
    assert {t.dtype for t in loaded.values()} == {torch.float32, torch.int64}
    network = toy_network()
    load_into(network, path)
    assert network.first.weight.dtype == torch.float32
    assert torch.equal(network.first.weight, state["first.weight"].to(dtype).float())


def changed(path: Path, **changes: torch.Tensor | None) -> Path:
    state = toy_network().state_dict()
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        if tensor is None:
            del state[key]
        else:
            state[key] = tensor
    save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first__bias": None}, r"'first\.bias' \(4\) is missing"),
        ({"extra": torch.zeros(2, 3)}, r"'extra' \(2x3\) is unknown"),
        ({"first__bias": torch.zeros(5)}, r"'first\.bias' is 5, the network has 4"),
        ({"first__bias": torch.zeros(4, dtype=torch.int32)}, r"'first\.bias' is I32"),
    ],
)
def test_differences_are_named_and_nothing_is_loaded(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], words: str
) -> None:
    network = toy_network()
    torch.nn.init.constant_(network.first.weight, 7)
    with pytest.raises(WeightsError, match=words) as caught:
        load_into(network, changed(tmp_path / "model.safetensors", **changes))
    assert "\n" not in str(caught.value)
    assert torch.all(network.first.weight == 7)


def test_only_the_first_differences_are_listed(toy_folder: Path) -> None:
    other = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(10)])
    differences = network_differences(other, read_header(toy_folder / "model.safetensors"))
    assert len(differences) == 27
    with pytest.raises(WeightsError, match="and 22 more"):
        load_into(other, toy_folder / "model.safetensors")


def test_no_differences_between_a_network_and_its_own_state() -> None:
    network = toy_network()
    assert network_differences(network, network.state_dict()) == []


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = changed(tmp_path / "model.safetensors", first__bias=torch.full((4,), torch.nan))
    with pytest.raises(WeightsError, match=r"'first\.bias' holds values that are not finite"):
        load_state(path)
