"""Presets of DiffuseReg in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import augmentation, cosine, flips, heart_3d, heart_box

_DENOISER: dict[str, Any] = {
    "width": 120,
    "heads": (3, 6, 12, 24),
    "window": (2, 4, 4),
    "legacy_merging": False,
    "time_in_blocks": True,
    "mask": True,
    "checkpointing": False,
    "scale": (1, 1, 1),
    "streams": False,
    "images": False,
    "guess": False,
    "zero_output": False,
    "predicts": "noise",
    "length": (8.0, 16.0, 16.0),  # 25 mm
    "statistics": None,
}

_PUBLISHED: dict[str, Any] = {
    "fields": "vtn",
    "batch": 1,
    "lambda_noise": 1.0,
    "lambda_clean": 0.0,
    "lambda_similarity": 1.0,
    "lambda_smoothness": 0.1,
    "units": "voxels",
    "padding": "zeros",
    "clamp": None,
    "weighting": "none",
    "skip_above": None,
    "focus": 0.0,
    "high": 0,
    "imperfect": 0.0,
    "lr": 1e-4,
    "weight_decay": 1e-4,
    "clip": None,
    "ema": None,
    "schedule": {"kind": "cosine", "floor": 0.01},
    # 100 pairs in the paper's direction (ES moving, which the reader lists as fixed), 1200 epochs
    "steps": 120_000,
    "directions": "exchanged",
    "augment": flips(),
}

_FIXED: dict[str, Any] = {
    "mean": (0.0014, -0.0758, -0.1493),
    "std": (0.4636, 1.1375, 1.2221),
}
"""Of the paper's VTN fields on ACDC, in voxels of its box."""

_TELLS_APART: dict[str, Any] = {
    "streams": True,
    "images": True,
    "guess": True,
    "zero_output": True,
    "predicts": "residual",
}
"""A network that knows moving from fixed, and has a goal of unit variance at every step."""

_SHORT: dict[str, Any] = {
    **_PUBLISHED,
    "fields": "optimise",
    "directions": "both",
    "lambda_clean": 1.0,
    "clamp": 10.0,
    "units": "mm",
    "padding": "border",
    "focus": 0.75,
    "high": 1200,
    "imperfect": 0.5,
    "clip": 1.0,
    "schedule": cosine(100),
    "augment": augmentation(),
}
"""What makes short trainings enough; none of it is in the paper (docs/diffusereg.md)."""


def _gpu(width: int) -> dict[str, Any]:
    """A day on one GPU or less: the paper's box, recomputed statistics, DDIM."""
    return {
        "ndim": 3,
        "network": {**_DENOISER, **_TELLS_APART, "width": width},
        "preparation": heart_box(anchor="motion"),
        "options": {"steps": 50},
        "training": {**_SHORT, "steps": 40_000, "batch": 2, "lr": 2e-4, "ema": 0.999},
    }


DIFFUSEREG: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": {**_DENOISER, "statistics": _FIXED},
        "preparation": heart_box(),
        "options": {"sampler": "ancestral", "clamp": None},
        "training": _PUBLISHED,
    },
    "medium": _gpu(48),
    "small": _gpu(24),
    "acdc-3d": {
        "ndim": 3,
        "network": {
            **_DENOISER,
            **_TELLS_APART,
            "width": 12,
            "scale": (1, 2, 2),
            "length": (4.0, 6.0, 6.0),
        },
        "preparation": heart_3d(),
        "options": {"steps": 5},
        "training": {
            **_SHORT,
            "fields_options": {"preset": "default"},
            "lambda_similarity": 2.0,
            "steps": 3_000,
            "batch": 4,
            "lr": 2e-3,
            "ema": 0.995,
            "val_every": 250,
        },
    },
}
"""``paper``: feature size 120 as published, for a large GPU; ``medium`` and ``small``: 48 and 24,
with what helps; ``acdc-3d``: 12, hours on a CPU."""
