"""From 2-D weights to 3-D ones: taps, heads that gain z, layers from a field to a field."""

from __future__ import annotations

import torch
from torch import nn

from regtool.nn.convolution import narrow_convolution
from regtool.nn.inflate import inflate


class Net(nn.Module):
    def __init__(self, ndim: int) -> None:
        super().__init__()
        layer = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.halves = layer(1, 4, 3, stride=2, padding=1)
        self.flow = layer(4, ndim, 3, padding=1)
        self.spread = layer(ndim, ndim, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spread(self.flow(self.halves(x)))


def test_equal_slices_give_the_flat_field_and_z_keeps_its_own_start():
    torch.manual_seed(0)
    flat, solid = Net(2), Net(3)
    own = {name: value.clone() for name, value in solid.state_dict().items()}
    inflate(flat, solid)
    x = torch.randn(1, 1, 8, 12)
    with torch.no_grad():
        wanted, found = flat(x), solid(x[:, :, None].expand(-1, -1, 16, -1, -1))
    assert torch.allclose(found[:, 1:, 4], wanted, atol=1e-5)
    for name in ("flow", "spread"):
        assert torch.equal(solid.state_dict()[f"{name}.weight"][0], own[f"{name}.weight"][0])
    assert not solid.spread.weight[1:, 0].any()  # nothing from z
    kernel = solid.halves.weight[:, 0]
    shares = torch.tensor([0.25, 0.5, 0.25])
    assert torch.allclose(kernel, flat.halves.weight[:, 0, None] * shares[:, None, None])


def test_channels_of_zeros_change_neither_values_nor_gradients():
    torch.manual_seed(0)
    layer, x = nn.Conv3d(3, 2, 3, padding=1), torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    answers = []
    for convolve in (layer, lambda x: narrow_convolution(layer, x)):
        y = convolve(x)
        answers.append((y, *torch.autograd.grad(y.square().sum(), (x, layer.weight))))
    for plain, padded in zip(*answers, strict=True):
        assert torch.allclose(plain, padded, atol=1e-4)
