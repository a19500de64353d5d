"""Drawn steps and noise of training examples, and the error of a predicted noise."""

from __future__ import annotations

import pytest
import torch

from regtool.diffusion.draw import Draw, draw
from regtool.diffusion.schedule import SR3


def test_sr3_is_the_schedule_of_the_papers():
    assert SR3.steps == 2000
    assert (float(SR3.betas[0]), float(SR3.betas[-1])) == pytest.approx((1e-6, 1e-2))
    for t, level in ((200, 0.904), (1000, 0.0814), (1999, 4.4e-5)):
        assert SR3.level(t) == pytest.approx(level, rel=0.02)


def test_shares_of_clean_and_low_steps():
    like, random = torch.zeros(4000, 1, 1, 1), torch.Generator().manual_seed(0)
    drawn = draw(SR3, like, random, clean=0.25, focus=0.5, low=200)
    assert drawn.clean.float().mean() == pytest.approx(0.25, abs=0.03)
    assert not drawn.t[drawn.clean].any()
    low = (drawn.t[~drawn.clean] < 200).float().mean()
    assert low == pytest.approx(0.55, abs=0.03)  # half, and a tenth of the others
    plain = draw(SR3, like, random)
    assert not plain.clean.any()
    assert 0 <= plain.t.min() < 20 and 1980 < plain.t.max() < 2000
    assert plain.t.float().mean() == pytest.approx(999.5, rel=0.05)
    assert float(plain.noise.std()) == pytest.approx(1, abs=0.05)


def test_state_and_error_by_hand():
    noise = torch.tensor([1.0, -2.0, 3.0]).reshape(3, 1, 1, 1)
    drawn = Draw(torch.tensor([1000, 0, 200]), noise, torch.tensor([False, True, False]))
    image = torch.full((3, 1, 1, 1), 0.5)
    state = drawn.state(SR3, image).flatten()
    for number, t in ((0, 1000), (2, 200)):
        level = SR3.level(t)
        wanted = level**0.5 * 0.5 + (1 - level) ** 0.5 * float(noise[number])
        assert float(state[number]) == pytest.approx(wanted, rel=1e-5)
    assert state[1] == 0.5  # clean
    found = torch.tensor([2.0, 7.0, 0.0]).reshape(3, 1, 1, 1)
    assert float(drawn.error(found)) == pytest.approx((1 + 9) / 2)
    assert Draw(drawn.t, noise, torch.ones(3, dtype=torch.bool)).error(found) == 0
