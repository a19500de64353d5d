"""Presets of FSDiffReg in plain data: network, preparation, training."""

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
)

_SCORE_3D: dict[str, Any] = {"width": 8, "groups": 4, "attention": "linear"}
_NETWORK: dict[str, Any] = {"fdg": True, "flow_init": None, "integrate": 0}

_PUBLISHED: dict[str, Any] = {
    "batch": 1,
    "similarity": "ncc",
    "lambda_similarity": 20.0,
    "lambda_smoothness": 20.0,
    "units": "voxels",
    "sdg": True,
    "gamma": 1.0,
    "detach_score": False,
    "clean": 0.0,
    "second_look": 0.0,
    "teacher": 0.0,
    "clip": None,
    "ema": None,
    "schedule": constant(),
    "lr": 2e-4,
}

_SHORT: dict[str, Any] = {
    "similarity": "mse",
    # With weights whose mean is a half: 100 and 2, as diffusemorph has in its presets acdc-…
    "lambda_similarity": 200.0,
    "lambda_smoothness": 2.0,
    "detach_score": True,
    "clean": 0.5,
    "second_look": 0.25,
    "teacher": 2.0,
    "clip": 1.0,
    "schedule": cosine(),
    "augment": augmentation(),
}
"""What makes hours on a CPU enough; none of it is in the paper (docs/fsdiffreg.md)."""

FSDIFFREG: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": {"score": _SCORE_3D, **_NETWORK},
        "preparation": heart_box(),
        # 90 patients, 700 epochs
        "training": {**_PUBLISHED, "steps": 63_000, "augment": flips()},
    },
    "paper-slices": {
        "ndim": 2,
        "network": {"score": {"width": 64, "groups": 32, "attention": "full"}, **_NETWORK},
        "preparation": heart_2d(),
        "training": {**_PUBLISHED, "steps": 63_000, "augment": flips()},
    },
    "acdc-3d": {
        "ndim": 3,
        "network": {"score": _SCORE_3D, **_NETWORK, "flow_init": 1e-5, "integrate": 6},
        "preparation": heart_3d(),
        "options": {"passes": 2},
        "training": {
            **_PUBLISHED,
            **_SHORT,
            "units": "mm",
            "lambda_smoothness": 4.0,
            "slices_first": {"steps": 1_000, "lr": 5e-4, "lambda_smoothness": 2.0},
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
            **_NETWORK,
            "flow_init": 1e-5,
            "integrate": 6,
        },
        "preparation": heart_2d(),
        "options": {"passes": 2},
        "training": {
            **_PUBLISHED,
            **_SHORT,
            "steps": 3_000,
            "batch": 6,
            "lr": 5e-4,
            "ema": 0.995,
        },
    },
    "trial": {
        "ndim": 2,
        "network": {"score": _SCORE_3D, **_NETWORK},
        "preparation": heart_2d_half(),
        "training": {
            **_PUBLISHED,
            "steps": 2_000,
            "batch": 8,
            "lr": 5e-4,
            "ema": 0.995,
            "schedule": cosine(),
            "augment": augmentation(),
        },
    },
}
"""``paper``: ACDC; ``paper-slices``: its slices. ``acdc-…``: hours on a CPU. ``trial``: the paper's
loss and widths on slices at half resolution, for the ablation."""
