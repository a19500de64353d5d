"""Central differences agree with NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regtool.spatial.derivative import central_difference


@pytest.mark.parametrize("shape", [(5, 7), (2, 3), (4, 5, 6), (1, 6, 2)])
def test_it_is_numpys_gradient(shape):
    image = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    for axis, n in enumerate(shape, start=2):
        found = central_difference(image, axis).numpy()
        wanted = np.gradient(image.numpy(), axis=axis) if n > 1 else np.zeros_like(found)
        assert np.allclose(found, wanted, atol=1e-6)
