"""Registration of real hearts, the validation patients of ACDC: uncropped files, ED to ES."""

from __future__ import annotations

from pathlib import Path

import regtool
from regtool.data.readers import open_data


def records(data: Path, method: str, slices: str | None = None, limit: int | None = None):
    """The records of ``method`` on the first ``limit`` patients, labels measuring only."""
    pairs = [p for p in open_data(f"acdc:{data / 'acdc'}") if p.split == "val"]
    return [
        regtool.register(
            pair.fixed.image, pair.moving.image, method, slices=slices,
            fixed_labels=pair.fixed.labels, moving_labels=pair.moving.labels,
        ).record
        for pair in pairs[:limit]
    ]  # fmt: skip


def gains(found) -> list[float]:
    """How much the mean Dice of each pair rose."""
    return [r["dice"]["after"]["mean"] - r["dice"]["before"]["mean"] for r in found]
