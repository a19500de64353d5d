"""Preparations and training settings that the presets of several methods share, in plain data.

Imports nothing heavy, so a plugin's description can use it. Each function returns new
dictionaries; further keys, or other values for theirs, are given by name.
"""

from __future__ import annotations

from typing import Any


def heart_box(**changes: Any) -> dict[str, Any]:
    """The preparation of ACDC volumes in DiffuseMorph and FSDiffReg, 32 x 128 x 128 voxels.

    101 x 192 x 192 mm about the middle of the image.
    """
    return {
        "orientation": "stack",
        "spacing": (3.15, 1.5, 1.5),
        "size": (32, 128, 128),
        "intensity": [{"kind": "minmax"}],
        **changes,
    }


def heart_3d(**changes: Any) -> dict[str, Any]:
    """The same box in 16 x 96 x 96 voxels, placed by what moves; slices are 5 or 10 mm apart."""
    return {
        "orientation": "stack",
        "spacing": (6.3, 2.0, 2.0),
        "size": (16, 96, 96),
        "fit": (True, False, False),
        "anchor": "motion",
        "intensity": percentiles(),
        **changes,
    }


def heart_2d(**changes: Any) -> dict[str, Any]:
    """Slices of 128 x 128 pixels of 1.5 mm, as the papers have them, placed by what moves."""
    return {
        "orientation": "stack",
        "spacing": (1.5, 1.5),
        "size": (128, 128),
        "anchor": "motion",
        "intensity": percentiles(),
        **changes,
    }


def heart_2d_half(**changes: Any) -> dict[str, Any]:
    """The same slices in 64 x 64 pixels of 3 mm, for trials."""
    return heart_2d(**{"spacing": (3.0, 3.0), "size": (64, 64), **changes})


def percentiles() -> list[dict[str, Any]]:
    """Intensities in [0, 1] whatever the few darkest and brightest voxels are."""
    return [{"kind": "percentile", "low": 0.5, "high": 99.5}]


def flips(**changes: Any) -> dict[str, Any]:
    """The ``augment`` of training settings that mirrors slices and swaps x and y."""
    return {"flip": ("x", "y"), "transpose": 0.5, **changes}


def augmentation(**changes: Any) -> dict[str, Any]:
    """The ``augment`` of the heart presets that train for hours.

    Scanners differ in orientation, pixel size and contrast; other clinics' hearts count too.
    """
    more = {"affine": 0.5, "rotation": 30.0, "scaling": 0.2, "gamma": 0.2}
    return flips(**{**more, **changes})


def constant() -> dict[str, Any]:
    """The ``schedule`` of training settings whose learning rate stays."""
    return {"kind": "constant"}


def cosine(warmup: int = 50) -> dict[str, Any]:
    """The ``schedule`` that rises for ``warmup`` steps and falls as half a cosine to zero."""
    return {"kind": "cosine", "warmup": warmup}
