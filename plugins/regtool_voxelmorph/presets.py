"""Presets of both methods in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

_BRAIN_BOX: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": (1.0, 1.0, 1.0),
    "size": (None, None, None),
    "multiple": 16,
    "intensity": [{"kind": "percentile", "low": 0.5, "high": 99.5}],
    "initial": "affine",
}
"""As the papers: 1 mm after affine alignment, sizes that four halvings divide."""

_HEART_3D: dict[str, Any] = {
    "orientation": "stack",
    "spacing": (6.3, 2.0, 2.0),
    "size": (16, 96, 96),
    "fit": (True, False, False),
    "anchor": "motion",
    "intensity": [{"kind": "percentile", "low": 0.5, "high": 99.5}],
}
"""The papers' box (192 mm, 101 mm), sampled more coarsely: the slices are 5 or 10 mm apart."""

_HEART_2D: dict[str, Any] = {
    "orientation": "stack",
    "spacing": (1.5, 1.5),
    "size": (128, 128),
    "anchor": "motion",
    "intensity": [{"kind": "percentile", "low": 0.5, "high": 99.5}],
}

_HEART_AUGMENT: dict[str, Any] = {
    "flip": ("x", "y"),
    "transpose": 0.5,
    "affine": 0.5,
    "rotation": 30.0,
    "scaling": 0.2,
    "gamma": 0.2,
}
"""Scanners differ in orientation, pixel size and contrast; other clinics' hearts count too."""

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
        },
    },
    "acdc-3d": {
        "ndim": 3,
        "network": {"variant": "2"},
        "preparation": _HEART_3D,
        "options": {"passes": 2},
        "training": {
            "slices_first": {"steps": 2_000, "lr": 1e-3},
            "steps": 4_000,
            "batch": 1,
            "lr": 5e-4,
            "similarity": "mse",
            "smoothness": 0.03,
            "schedule": {"kind": "cosine", "warmup": 50},
            "ema": 0.995,
            "augment": _HEART_AUGMENT,
        },
    },
    "acdc-2d": {
        "ndim": 2,
        "network": {"variant": "2", "width": 2},
        "preparation": _HEART_2D,
        "options": {"passes": 2},
        "training": {
            "steps": 7_000,
            "batch": 4,
            "lr": 8e-4,
            "similarity": "mse",
            "smoothness": 0.03,
            "schedule": {"kind": "cosine", "warmup": 50},
            "ema": 0.998,
            "augment": _HEART_AUGMENT,
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
        "preparation": _HEART_3D,
        "options": {"passes": 2},
        "training": {
            "slices_first": {"steps": 2_000, "lr": 1e-3},
            "steps": 3_000,
            "batch": 1,
            "lr": 5e-4,
            "sigma": 0.02,
            "prior": 17.0,
            "schedule": {"kind": "cosine", "warmup": 50},
            "ema": 0.995,
            "augment": _HEART_AUGMENT,
        },
    },
    "acdc-2d": {
        "ndim": 2,
        "network": {"variant": "2"},
        "preparation": _HEART_2D,
        "options": {"passes": 2},
        "training": {
            "steps": 4_000,
            "batch": 6,
            "lr": 1e-3,
            "sigma": 0.02,
            "prior": 50.0,
            "schedule": {"kind": "cosine", "warmup": 50},
            "ema": 0.995,
            "augment": _HEART_AUGMENT,
        },
    },
}
