"""Convolutions of a lone image on the CPU: the same values and gradients by the fast path."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from regtool.nn.convolution import hasten_convolutions, narrow_convolution


def both(layer: nn.Conv3d, x: Tensor) -> list[list[Tensor]]:
    """Answer and gradients of the layer as torch has it, and hastened."""
    found = []
    for module in (copy.deepcopy(layer), copy.deepcopy(layer)):
        if found:
            hasten_convolutions(module)
            assert type(module) is not nn.Conv3d
        image = x.clone().requires_grad_()
        answer = module(image)
        answer.square().sum().backward()
        gradients = [image.grad, *(p.grad for p in module.parameters())]
        found.append([answer.detach(), *(g for g in gradients if g is not None)])
    return found


@pytest.mark.parametrize("shape", [(4, 40, 36), (40, 4, 36), (36, 40, 4)])
@pytest.mark.parametrize(
    "options",
    [{"padding": 1}, {"padding": (0, 1, 2), "stride": (1, 2, 2), "bias": False},
     {"padding": 2, "dilation": 2}, {"padding": 1, "padding_mode": "replicate"},
     {"padding": "same"}, {"kernel_size": (1, 3, 5), "padding": (0, 1, 2)}],
)  # fmt: skip
def test_a_turned_convolution_is_the_same(shape: tuple[int, ...], options: dict) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(16, 4, **{"kernel_size": 3, **options})
    plain, hastened = both(layer, torch.randn(1, 16, *shape))
    for one, other in zip(plain, hastened, strict=True):
        assert other.shape == one.shape and other.is_contiguous()
        assert torch.allclose(one, other, atol=1e-3 * float(one.abs().max()))


@pytest.mark.parametrize("shape", [(1, 16, 4, 4, 4), (2, 16, 4, 40, 36), (1, 16, 40, 40, 4)])
def test_what_gains_nothing_is_left_alone(shape: tuple[int, ...]) -> None:
    layer = nn.Conv3d(16, 4, 3, padding=1)
    plain, hastened = both(layer, torch.randn(shape))
    assert all(torch.equal(one, other) for one, other in zip(plain, hastened, strict=True))


def test_torch_takes_the_fast_path_only_for_the_turned_image() -> None:
    """Should torch change its mind, turning is to be looked at again."""
    select = getattr(torch._C, "_select_conv_backend", None)
    if select is None:
        pytest.skip("this torch does not tell")

    def path(*shape: int) -> str:
        weight, ones = torch.zeros(16, 16, 3, 3, 3), [1, 1, 1]
        chosen = select(torch.zeros(shape), weight, None, ones, ones, ones, False, [0, 0, 0], 1)
        return str(chosen)

    assert "Mkldnn" in path(1, 16, 40, 36, 4)
    assert "Mkldnn" not in path(1, 16, 4, 40, 36)


def test_a_hastened_network_is_copied_and_stored_as_before() -> None:
    network = nn.Sequential(nn.Conv3d(16, 16, 3, padding=1), nn.Conv3d(16, 2, 1))
    names = list(network.state_dict())
    hasten_convolutions(network)
    hasten_convolutions(network)
    assert list(network.state_dict()) == names
    other = copy.deepcopy(network)
    with torch.no_grad():
        other[0].weight.zero_()
    x = torch.randn(1, 16, 4, 40, 36)
    assert not torch.allclose(network(x), other(x))


@pytest.mark.parametrize("shape", [(4, 40, 36), (4, 6, 5)])
def test_channels_of_zeros_change_nothing(shape: tuple[int, ...]) -> None:
    layer, x = nn.Conv3d(3, 5, 3, padding=1), torch.randn(1, 3, *shape)
    assert torch.allclose(narrow_convolution(layer, x), layer(x), atol=1e-5)
