"""The guard against wrong bfloat16 gradients on the CPU."""

from __future__ import annotations

import pytest
import torch

from regtool.nn.precision import protect_convolutions


@pytest.mark.parametrize("shape", [(2, 16, 16), (8, 2, 12), (4, 16, 16)])
def test_gradients_of_protected_convolutions_are_right(shape):
    torch.manual_seed(0)
    layer = torch.nn.Conv3d(32, 16, 3, padding=1)
    x = torch.randn(1, 32, *shape)
    weight = torch.randn(1, 16, *shape)
    (layer(x) * weight).sum().backward()
    wanted = layer.weight.grad.clone()
    layer.weight.grad = None
    protect_convolutions(layer)
    protect_convolutions(layer)
    names = list(layer.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    (out.float() * weight).sum().backward()
    error = (layer.weight.grad - wanted).abs().max() / wanted.abs().max()
    assert error < 0.05
    assert names == ["weight", "bias"]
