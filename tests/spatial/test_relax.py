"""The implicit step of diffusion, against the linear system that it solves, and its transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from regtool.spatial.relax import cosine_transform, relaxed


def differences(n: int) -> np.ndarray:
    """Forward differences of a line of n voxels, none across the border."""
    return np.diff(np.eye(n), axis=0)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 2)])
def test_it_solves_the_system_of_its_docstring(shape):
    u = torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    weights = [[0.0, 2.5, 0.3][: len(shape)], [40.0, 0.5, 1.0][: len(shape)]]
    found = relaxed(u, weights)
    assert found.dtype == torch.float32
    for channel, row in enumerate(weights):
        system = np.eye(int(np.prod(shape)))
        for axis, weight in enumerate(row):
            parts = [differences(n) if a == axis else np.eye(n) for a, n in enumerate(shape)]
            d = parts[0]
            for part in parts[1:]:
                d = np.kron(d, part)
            system += weight * d.T @ d
        for batch in range(2):
            exact = np.linalg.solve(system, u[batch, channel].numpy().ravel().astype(float))
            np.testing.assert_allclose(found[batch, channel].numpy().ravel(), exact, atol=1e-5)


def test_weights_are_one_row_a_channel_and_one_an_axis():
    u = torch.zeros(1, 2, 4, 5)
    for weights in ([[1.0, 1.0]], [[1.0], [1.0]], [[1.0, 1.0], [1.0, 1.0, 1.0]]):
        with pytest.raises(ValueError, match="one row a channel"):
            relaxed(u, weights)


def test_the_transform_is_scipys_and_has_an_inverse():
    x = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(1))
    waves = cosine_transform(x)
    exact = dctn(x.numpy().astype(float), type=2, norm="ortho", axes=(2, 3))
    np.testing.assert_allclose(waves.numpy(), exact, atol=1e-5)
    torch.testing.assert_close(cosine_transform(waves, inverse=True), x)
