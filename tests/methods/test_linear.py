"""The linear methods: what they claim is what they give."""

from __future__ import annotations

import pytest
import torch

from regtool.api import Context, Pair, Sample
from regtool.plugins import discovery


@pytest.mark.parametrize("name", ["rigid", "affine"])
def test_the_field_stands_still_and_so_does_its_inverse(name):
    method = discovery.load(name)
    module = discovery.resolve_import(method.model, "model")({})
    image = torch.rand(2, 1, 8, 10)
    pair = Pair(Sample(image, (1.0, 1.0)), Sample(image, (1.0, 1.0)))
    answer = module(pair, None, Context(torch.Generator(), torch.device("cpu")))
    assert "inverse" in method.capabilities
    for field in (answer.displacement, answer.inverse):
        assert field.shape == (2, 2, 8, 10) and not field.any()
    assert answer.inverse is not answer.displacement
