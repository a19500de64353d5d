"""Typed options: how they are shown, and how ``--set`` texts become values."""

from __future__ import annotations

from typing import Literal

import pytest

from regtool.api import Field, Options
from regtool.errors import UsageError
from regtool.plugins.options import describe_options, parse_options


class Sample(Options):
    rounds: int = Field(20, ge=1, description="How often.")
    weight: float = Field(0.5, gt=0, le=1, description="Weight.")
    metric: Literal["ncc", "mse"] = Field("ncc", description="Similarity.")
    limit: float | None = Field(None, description="Largest displacement.")
    levels: tuple[int, ...] = Field((4, 2, 1), description="Resolutions.")
    fast: bool = Field(False, description="Hurry.")
    on_grid: str = Field("full", description="Grid.")


def test_options_are_described_in_words() -> None:
    shown = {option.name: (option.type, option.default) for option in describe_options(Sample)}
    assert shown == {
        "rounds": ("int, >= 1", 20),
        "weight": ("float, > 0, <= 1", 0.5),
        "metric": ("ncc|mse", "ncc"),
        "limit": ("float or none", None),
        "levels": ("int,...", [4, 2, 1]),
        "fast": ("bool", False),
        "on_grid": ("str", "full"),
    }


def test_texts_become_values() -> None:
    texts = ["rounds=7", "weight=1e-2", "metric=mse", "limit=none", "levels=8,4", "fast=true"]
    values = parse_options(Sample, [*texts, "on-grid=half"])
    assert values == Sample(
        rounds=7, weight=0.01, metric="mse", limit=None, levels=(8, 4), fast=True, on_grid="half"
    )


def test_the_last_of_repeated_names_wins() -> None:
    assert parse_options(Sample, ["rounds=1", "rounds=2"]).rounds == 2


def test_a_mapping_is_taken_as_it_is() -> None:
    assert parse_options(Sample, {"limit": 3.0, "levels": (2,)}).levels == (2,)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("rounds", "name=value"),
        ("=3", "name=value"),
        ("round=3", "did you mean 'rounds'"),
        ("zzz=3", "known: rounds"),
        ("rounds=0", r"'rounds' of method 'm' \(int, >= 1\): '0': must be 1 or more$"),
        ("rounds=many", r"'many': not a whole number$"),
        ("fast=perhaps", r"'perhaps': neither true nor false$"),
        ("metric=ssd", r"'metric' of method 'm' \(ncc\|mse\): 'ssd' is none of these$"),
        ("levels=4,x", "levels"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(setting: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        parse_options(Sample, [setting], "m")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_method_without_options_says_so() -> None:
    with pytest.raises(UsageError, match="method 'm' has none"):
        parse_options(Options, ["a=1"], "m")


def test_options_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Sample().rounds = 3
