"""Presets of DiffuseMorph in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

_SCORE_3D: dict[str, Any] = {"width": 8, "groups": 4, "attention": "linear"}
_SCORE_2D: dict[str, Any] = {"width": 64, "groups": 32, "attention": "full"}
_FIELD: dict[str, Any] = {"form": "voxelmorph", "width": 1, "flow_init": 0.02}

_PUBLISHED: dict[str, Any] = {
    "batch": 1,
    "similarity": "ncc",
    "smoothness": 1.0,
    "units": "voxels",
    "clean": 0.0,
    "focus": 0.0,
    "second_look": 0.0,
    "teacher": 0.0,
    "still": 0.0,
    "ema": None,
    "schedule": {"kind": "constant"},
}
"""Every recipe of the paper; ``lambda``, learning rate and steps differ from data to data."""

_HEART_3D: dict[str, Any] = {
    "orientation": "stack",
    "spacing": (3.15, 1.5, 1.5),
    "size": (32, 128, 128),
    "intensity": [{"kind": "minmax"}],
}
"""The paper's box, 101 x 192 x 192 mm about the middle of the image."""

_HEART_3D_HALF: dict[str, Any] = {
    "orientation": "stack",
    "spacing": (6.3, 2.0, 2.0),
    "size": (16, 96, 96),
    "fit": (True, False, False),
    "anchor": "motion",
    "intensity": [{"kind": "percentile", "low": 0.5, "high": 99.5}],
}
"""The same box sampled more coarsely, placed by what moves."""

_HEART_2D: dict[str, Any] = {
    "orientation": "stack",
    "spacing": (1.5, 1.5),
    "size": (128, 128),
    "anchor": "motion",
    "intensity": [{"kind": "percentile", "low": 0.5, "high": 99.5}],
}

_BRAIN: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": (1.0, 1.0, 1.0),
    "size": (160, 192, 224),
    "intensity": [{"kind": "percentile", "low": 0.5, "high": 99.5}],
    "initial": "affine",
}

_FACE: dict[str, Any] = {
    "orientation": "file",
    "spacing": (None, None),
    "size": (128, 128),
    "fit": (True, True),
    "intensity": [{"kind": "minmax"}],
}
"""The whole picture as 128 x 128 pixels."""

_FLIPS: dict[str, Any] = {"flip": ("x", "y"), "transpose": 0.5}

_AUGMENT: dict[str, Any] = {
    **_FLIPS,
    "affine": 0.5,
    "rotation": 30.0,
    "scaling": 0.2,
    "gamma": 0.2,
}

_SHORT: dict[str, Any] = {
    "similarity": "mse",
    "lambda": 100.0,
    "smoothness": 0.02,
    "clean": 0.5,
    "focus": 0.5,
    "second_look": 0.25,
    "still": 0.1,
    "schedule": {"kind": "cosine", "warmup": 50},
    "augment": _AUGMENT,
}
"""What makes hours on a CPU enough; none of it is in the paper (docs/diffusemorph.md)."""

DIFFUSEMORPH: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": {"score": _SCORE_3D, "field": _FIELD, "integrate": 0},
        "preparation": _HEART_3D,
        # 90 patients, 800 epochs
        "training": {
            **_PUBLISHED,
            "lambda": 20.0,
            "lr": 2e-4,
            "steps": 72_000,
            "augment": _FLIPS,
        },
    },
    "paper-brain": {
        "ndim": 3,
        "network": {"score": _SCORE_3D, "field": _FIELD, "integrate": 0},
        "preparation": _BRAIN,
        # 1027 scans, 60 epochs; the atlas is the fixed image of every pair
        "training": {**_PUBLISHED, "lambda": 10.0, "lr": 1e-4, "steps": 61_620},
    },
    "paper-face": {
        "ndim": 2,
        "network": {"score": _SCORE_2D, "field": {**_FIELD, "form": "large"}, "integrate": 0},
        "preparation": _FACE,
        # 53 people with 8 expressions and 3 gazes, 40 epochs
        "training": {
            **_PUBLISHED,
            "lambda": 2.0,
            "lr": 5e-6,
            "steps": 50_880,
            "augment": {"flip": ("x",)},
        },
    },
    "paper-slices": {
        "ndim": 2,
        "network": {"score": _SCORE_2D, "field": _FIELD, "integrate": 0},
        "preparation": _HEART_2D,
        "training": {
            **_PUBLISHED,
            "lambda": 20.0,
            "lr": 2e-4,
            "steps": 72_000,
            "augment": _FLIPS,
        },
    },
    "acdc-3d": {
        "ndim": 3,
        "network": {
            "score": _SCORE_3D,
            "field": {**_FIELD, "flow_init": 1e-5},
            "integrate": 6,
        },
        "preparation": _HEART_3D_HALF,
        "options": {"passes": 2},
        "training": {
            **_PUBLISHED,
            **_SHORT,
            "units": "mm",
            "smoothness": 0.04,
            "teacher": 0.02,
            "clip": 1.0,
            "slices_first": {"steps": 1_000, "lr": 5e-4, "smoothness": 0.02},
            "steps": 1_000,
            "batch": 1,
            "lr": 2e-4,
            "ema": 0.99,
        },
    },
    "acdc-2d": {
        "ndim": 2,
        "network": {
            "score": {"width": 16, "groups": 8, "attention": "full"},
            "field": {**_FIELD, "width": 2, "flow_init": 1e-5},
            "integrate": 6,
        },
        "preparation": _HEART_2D,
        "options": {"passes": 2},
        "training": {
            **_PUBLISHED,
            **_SHORT,
            "teacher": 0.02,
            "clip": 1.0,  # without it validation once fell from 0.725 to 0.605 within 70 steps
            "steps": 3_000,
            "batch": 6,
            "lr": 5e-4,
            "ema": 0.995,
        },
    },
}
"""``paper``: ACDC, and ``paper-…``: the other data sets. ``acdc-…``: what ships; hours on a CPU."""
