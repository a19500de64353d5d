"""Presets of DiffuseMorph in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import (
    augmentation,
    constant,
    cosine,
    flips,
    heart_2d,
    heart_2d_half,
    heart_3d,
    heart_box,
    percentiles,
)

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
    "padding": "border",
    "clip": None,
    "ema": None,
    "schedule": constant(),
}
"""Every recipe of the paper; ``lambda``, learning rate and steps differ from data to data.

``padding``: outside the moving image are zeros, as in the released 3-D code, or its border goes on,
as in the 2-D code and in all of ours."""

_BRAIN: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": (1.0, 1.0, 1.0),
    "size": (160, 192, 224),
    "intensity": percentiles(),
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

_SHORT: dict[str, Any] = {
    "similarity": "mse",
    "lambda": 100.0,
    "smoothness": 0.02,
    "clean": 0.5,
    "focus": 0.5,
    "second_look": 0.25,
    "still": 0.1,
    "schedule": cosine(),
    "augment": augmentation(),
}
"""What makes hours on a CPU enough; none of it is in the paper (docs/diffusemorph.md)."""

DIFFUSEMORPH: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": {"score": _SCORE_3D, "field": _FIELD, "integrate": 0},
        "preparation": heart_box(),
        # 90 patients, 800 epochs
        "training": {
            **_PUBLISHED,
            "lambda": 20.0,
            "padding": "zeros",
            "lr": 2e-4,
            "steps": 72_000,
            "augment": flips(),
        },
    },
    "paper-brain": {
        "ndim": 3,
        "network": {"score": _SCORE_3D, "field": _FIELD, "integrate": 0},
        "preparation": _BRAIN,
        # 1027 scans, 60 epochs; the atlas is the fixed image of every pair
        "training": {
            **_PUBLISHED,
            "lambda": 10.0,
            "padding": "zeros",
            "lr": 1e-4,
            "steps": 61_620,
        },
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
        "preparation": heart_2d(),
        "training": {
            **_PUBLISHED,
            "lambda": 20.0,
            "lr": 2e-4,
            "steps": 72_000,
            "augment": flips(),
        },
    },
    "acdc-3d": {
        "ndim": 3,
        "network": {
            "score": _SCORE_3D,
            "field": {**_FIELD, "flow_init": 1e-5},
            "integrate": 6,
        },
        "preparation": heart_3d(),
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
        "preparation": heart_2d(),
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
    "trial": {
        "ndim": 2,
        "network": {"score": _SCORE_3D, "field": _FIELD, "integrate": 0},
        "preparation": heart_2d_half(),
        "training": {
            **_PUBLISHED,
            "lambda": 20.0,
            "clean": 0.5,
            "steps": 1_000,
            "batch": 8,
            "lr": 5e-4,
            "ema": 0.995,
            "schedule": cosine(),
            "augment": augmentation(),
        },
    },
}
"""``paper``: ACDC, and ``paper-…``: the other data sets. ``acdc-…``: what ships; hours on a CPU.
``trial``: the paper's widths and loss, half of it on clean images (``clean``), on slices at half
resolution, for the study of lambda."""
