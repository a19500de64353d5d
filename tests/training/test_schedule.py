"""Learning-rate schedules against their formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regtool.engine.training.schedule import factor
from regtool.plugins.training import Schedule


def test_constant() -> None:
    assert [factor(Schedule(), s, 10) for s in (0, 5, 10)] == [1, 1, 1]


def test_step_drops_at_each_milestone() -> None:
    schedule = Schedule("step", milestones=(0.5, 0.75), gamma=0.1)
    values = [factor(schedule, s, 100) for s in (0, 49, 50, 74, 75, 99)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_poly() -> None:
    assert factor(Schedule("poly", power=0.9), 25, 100) == pytest.approx(0.75**0.9)


def test_cosine() -> None:
    values = [factor(Schedule("cosine"), s, 100) for s in (0, 25, 50, 100)]
    assert values == pytest.approx([1, 0.5 + math.sqrt(0.5) / 2, 0.5, 0])


def test_warmup_rises_linearly_and_never_starts_at_zero() -> None:
    values = [factor(Schedule(warmup=4), s, 100) for s in range(6)]
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="sawtooth"):
        factor(Schedule("sawtooth"), 0, 1)  # type: ignore[arg-type]


@given(
    kind=st.sampled_from(["constant", "step", "poly", "cosine"]),
    total=st.integers(1, 10_000),
    warmup=st.integers(0, 100),
    share=st.floats(0, 1),
)
def test_factor_stays_between_zero_and_one(
    kind: str, total: int, warmup: int, share: float
) -> None:
    schedule = Schedule(kind, warmup, (0.5,))  # type: ignore[arg-type]
    assert 0 <= factor(schedule, int(share * total), total) <= 1
