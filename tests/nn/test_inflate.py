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


def test_convolutions_before_a_pooling_are_spread_where_they_are_named():
    torch.manual_seed(0)
    flat, solid = Net(2), Net(3)
    for pooled, shares in (((), (0.0, 1.0, 0.0)), (("halves", "fl"), (0.25, 0.5, 0.25))):
        inflate(flat, solid, pooled)
        wanted = flat.flow.weight[:, :, None] * torch.tensor(shares)[:, None, None]
        assert torch.equal(solid.flow.weight[1:], wanted)
        assert torch.equal(solid.spread.weight[1:, 1:, 1], flat.spread.weight)


def test_channels_of_zeros_change_neither_values_nor_gradients():
    torch.manual_seed(0)
    layer, x = nn.Conv3d(3, 2, 3, padding=1), torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    answers = []
    for convolve in (layer, lambda x: narrow_convolution(layer, x)):
        y = convolve(x)
        answers.append((y, *torch.autograd.grad(y.square().sum(), (x, layer.weight))))
    for plain, padded in zip(*answers, strict=True):
        assert torch.allclose(plain, padded, atol=1e-4)


class Growing(nn.Module):
    """A field from features, then both doubled by transposed layers 4 wide, the field first."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        layer = nn.ConvTranspose3d if ndim == 3 else nn.ConvTranspose2d
        self.flow = (nn.Conv3d if ndim == 3 else nn.Conv2d)(2, ndim, 3, padding=1)
        self.field = layer(ndim, ndim, 4, stride=2, padding=1)
        self.both = layer(ndim + 2, 4, 4, stride=2, padding=1)
        self.last = nn.Linear((ndim + 1) * 5, ndim + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.flow(x), x], 1)
        return torch.cat([self.field(both[:, : x.dim() - 2]), self.both(both)], 1)


def test_transposed_and_linear_layers_with_more_inputs_in_3d():
    torch.manual_seed(0)
    flat, solid = Growing(2), Growing(3)
    own = solid.last.weight[0].clone()
    inflate(flat, solid)
    x = torch.randn(1, 2, 6, 8)
    with torch.no_grad():
        wanted, found = flat(x), solid(x[:, :, None].expand(-1, -1, 8, -1, -1))
    assert torch.allclose(found[:, 1:, 7], wanted, atol=1e-5)
    assert torch.allclose(found[:, 1:, 8], wanted, atol=1e-5)
    assert torch.equal(solid.last.weight[1:, 5:], flat.last.weight)
    assert not solid.last.weight[1:, :5].any()
    assert torch.equal(solid.last.weight[0], own)
