"""Training settings of AD-RegNet's presets, in plain data."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import cosine

_PUBLISHED: dict[str, Any] = {
    "batch": 1,
    "lambda_similarity": 1.0,
    "lambda_regularity": 0.1,
    "lambda_landmarks": 1.0,
    "similarity": {"ncc": 1.0, "ssim": 1.0, "local_ncc": 0.0, "mse": 0.0, "mind": 0.0},
    "ssim_window": 7,
    "ncc_window": 9,
    "smoothness": 1.0,
    "jacobian": 1.0,
    "units": "voxels",
    "second_look": 0.0,
    "teacher": 0.0,
    "known_field": 0.0,
    "known_levels": 0.0,
    "clip": None,
    "ema": None,
    "lr": 1e-4,
}
"""The paper's outer weights; inner ones, and the windows, are ours (METHODS 7.3, AD-4)."""

PAPER_TRAINING: dict[str, Any] = {
    **_PUBLISHED,
    # IXI's 403 training scans, 200 epochs; the rate is halved after every twentieth.
    "steps": 80_600,
    "val_every": 403,
    "patience": 20,
    "schedule": {
        "kind": "step",
        "milestones": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "gamma": 0.5,
    },
}
"""As the paper says, on a data set of IXI's size."""

_SHORT: dict[str, Any] = {
    **_PUBLISHED,
    "lambda_regularity": 1.0,
    "similarity": {"ncc": 0.0, "ssim": 0.0, "local_ncc": 1.0, "mse": 0.0, "mind": 0.0},
    "ncc_window": 7,
    "jacobian": 10.0,
    "second_look": 0.25,
    "clip": 1.0,
    "ema": 0.99,
    "schedule": cosine(),
}
"""What makes hours on a CPU enough; none of it is in the paper."""

_BODY: dict[str, Any] = {"affine": 0.5, "rotation": 10.0, "scaling": 0.1, "translation": 6.0}

BRAIN_TRAINING: dict[str, Any] = {
    **_SHORT,
    "fields": "optimise",
    "fields_options": {"iterations": "60,60,15", "tolerance": 0.03},
    "known_field": 0.3,
    "known_levels": 0.2,
    "steps": 1_100,
    "val_every": 110,
    "lr": 1e-3,
    "augment": {
        "flip": ("x",),
        "affine": 0.5,
        "rotation": 5.0,
        "scaling": 0.05,
        "translation": 4.0,
        "gamma": 0.2,
        "synthesis": 0.15,
        "transfer": 0.25,
        "blur": 0.5,
        "bias": 0.2,
        "noise": 0.02,
    },
}
"""Pairs of T1 scans. Two of three images get a contrast of no scanner, by their labels or by a
curve, so that the weights know shapes and not T1; similarity is that of the scans themselves.
Fields found by instance optimisation beforehand (4 s a pair, both ways) show the way."""

LUNG_TRAINING: dict[str, Any] = {
    **_SHORT,
    "smoothness": 0.5,
    "fields": "known",
    "known_field": 0.5,
    "known_levels": 0.2,
    "select": "tre",
    "steps": 1_500,
    "val_every": 150,
    "lr": 1e-3,
    "augment": {
        "flip": ("x",),
        **_BODY,
        "elastic": 12.0,
        "elastic_probability": 0.75,
        "gamma": 0.2,
        "bias": 0.1,
        "blur": 0.5,
        "noise": 0.03,
    },
}
"""Synthetic breaths: their fields are known; local correlation beside them forgives that lungs grow
denser as they lose air. Smooth deformations of the fixed image make motions of no family, so that
the weights do not learn two families by heart. Without ``known_field`` and ``fields`` it trains on
real breaths."""

TRIAL_TRAINING: dict[str, Any] = {
    **LUNG_TRAINING,
    "steps": 600,
    "val_every": 100,
    "lr": 1e-3,
    "second_look": 0.0,
    "ema": 0.98,
    "augment": {"flip": ("x",)},
}
"""Minutes for each of several networks that are compared: the study of the paper's parts."""
