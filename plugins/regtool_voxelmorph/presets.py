"""Presets of both methods in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import augmentation, cosine, heart_2d, heart_3d, percentiles

_BRAIN_BOX: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": (1.0, 1.0, 1.0),
    "size": (None, None, None),
    "multiple": 16,
    "intensity": percentiles(),
    "initial": "affine",
}
"""As the papers: 1 mm after affine alignment, sizes that four halvings divide."""

VOXELMORPH: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": {"variant": "2"},
        "preparation": _BRAIN_BOX,
        "training": {
            "steps": 150_000,
            "batch": 1,
            "lr": 1e-4,
            "similarity": "ncc",
            "smoothness": 1.0,
            "teacher": 0.0,
            "clip": None,
        },
    },
    "acdc-3d": {
        "ndim": 3,
        "network": {"variant": "2"},
        "preparation": heart_3d(),
        "options": {"passes": 2},
        "training": {
            "slices_first": {"steps": 2_000, "lr": 1e-3},
            "steps": 4_000,
            "batch": 1,
            "lr": 5e-4,
            "similarity": "mse",
            "smoothness": 0.03,
            "teacher": 0.0,
            "clip": None,
            "schedule": cosine(),
            "ema": 0.995,
            "augment": augmentation(),
        },
    },
    "acdc-2d": {
        "ndim": 2,
        "network": {"variant": "2", "width": 2},
        "preparation": heart_2d(),
        "options": {"passes": 2},
        "training": {
            "steps": 7_000,
            "batch": 4,
            "lr": 8e-4,
            "similarity": "mse",
            "smoothness": 0.03,
            "teacher": 0.0,
            "clip": None,
            "schedule": cosine(),
            "ema": 0.998,
            "augment": augmentation(),
        },
    },
}

VOXELMORPH_DIFF: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": {"variant": "2"},
        "preparation": _BRAIN_BOX,
        "training": {
            "steps": 150_000,
            "batch": 1,
            "lr": 1e-4,
            "sigma": 0.02,
            "prior": 10.0,
        },
    },
    "acdc-3d": {
        "ndim": 3,
        "network": {"variant": "2"},
        "preparation": heart_3d(),
        "options": {"passes": 2},
        "training": {
            "slices_first": {"steps": 2_000, "lr": 1e-3},
            "steps": 3_000,
            "batch": 1,
            "lr": 5e-4,
            "sigma": 0.02,
            "prior": 17.0,
            "schedule": cosine(),
            "ema": 0.995,
            "augment": augmentation(),
        },
    },
    "acdc-2d": {
        "ndim": 2,
        "network": {"variant": "2"},
        "preparation": heart_2d(),
        "options": {"passes": 2},
        "training": {
            "steps": 4_000,
            "batch": 6,
            "lr": 1e-3,
            "sigma": 0.02,
            "prior": 50.0,
            "schedule": cosine(),
            "ema": 0.995,
            "augment": augmentation(),
        },
    },
}
