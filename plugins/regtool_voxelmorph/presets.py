"""Presets of both methods in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import (
    augmentation,
    constant,
    cosine,
    heart_2d,
    heart_3d,
    percentiles,
)

_BRAIN_BOX: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": (1.0, 1.0, 1.0),
    "size": (None, None, None),
    "multiple": 16,
    "intensity": percentiles(),
    "initial": "affine",
}
"""As the papers: 1 mm after affine alignment, sizes that four halvings divide."""

_NETWORK: dict[str, Any] = {"variant": "2", "width": 1}

_PUBLISHED: dict[str, Any] = {
    "steps": 150_000,
    "batch": 1,
    "lr": 1e-4,
    "clip": None,
    "ema": None,
    "schedule": constant(),
}

_DIRECT: dict[str, Any] = {"similarity": "ncc", "smoothness": 1.0, "teacher": 0.0}

_HEART: dict[str, Any] = {**_PUBLISHED, "schedule": cosine(), "augment": augmentation()}

VOXELMORPH: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": _NETWORK,
        "preparation": _BRAIN_BOX,
        "training": {**_PUBLISHED, **_DIRECT},
    },
    "acdc-3d": {
        "ndim": 3,
        "network": _NETWORK,
        "preparation": heart_3d(),
        "options": {"passes": 2},
        "training": {
            **_HEART,
            **_DIRECT,
            "slices_first": {"steps": 2_000, "lr": 1e-3},
            "steps": 4_000,
            "lr": 5e-4,
            "similarity": "mse",
            "smoothness": 0.03,
            "ema": 0.995,
        },
    },
    "acdc-2d": {
        "ndim": 2,
        "network": {**_NETWORK, "width": 2},
        "preparation": heart_2d(),
        "options": {"passes": 2},
        "training": {
            **_HEART,
            **_DIRECT,
            "steps": 7_000,
            "batch": 4,
            "lr": 8e-4,
            "similarity": "mse",
            "smoothness": 0.03,
            "ema": 0.998,
        },
    },
}

_PROBABILISTIC: dict[str, Any] = {"sigma": 0.02, "prior": 10.0}

VOXELMORPH_DIFF: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": _NETWORK,
        "preparation": _BRAIN_BOX,
        "training": {**_PUBLISHED, **_PROBABILISTIC},
    },
    "acdc-3d": {
        "ndim": 3,
        "network": _NETWORK,
        "preparation": heart_3d(),
        "options": {"passes": 2},
        "training": {
            **_HEART,
            **_PROBABILISTIC,
            "slices_first": {"steps": 2_000, "lr": 1e-3},
            "steps": 3_000,
            "lr": 5e-4,
            "prior": 17.0,
            "ema": 0.995,
        },
    },
    "acdc-2d": {
        "ndim": 2,
        "network": _NETWORK,
        "preparation": heart_2d(),
        "options": {"passes": 2},
        "training": {
            **_HEART,
            **_PROBABILISTIC,
            "steps": 4_000,
            "batch": 6,
            "lr": 1e-3,
            "prior": 50.0,
            "ema": 0.995,
        },
    },
}
