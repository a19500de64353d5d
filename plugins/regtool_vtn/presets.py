"""Presets of VTN in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import augmentation, constant, cosine, flips, heart_3d, heart_box

_NETWORK: dict[str, Any] = {
    "widths": (16, 32, 64, 128),
    "stems": 3,
    "affine": "any",
    "size": None,
    "flow_init": None,
    "integrate": 0,
    "input_activation": True,
    "start": "torch",
}

_PUBLISHED: dict[str, Any] = {
    "batch": 2,
    "similarity": "ssim",
    "lambda_similarity": 1.0,
    "lambda_smoothness": 1.0,
    "lambda_determinant": 0.1,
    "lambda_orthogonality": 0.1,
    "units": "voxels",
    "second_look": 0.0,
    "teacher": 0.0,
    "clip": None,
    "ema": None,
    "schedule": constant(),
    "lr": 1e-4,
}

VTN: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 3,
        "network": {**_NETWORK, "affine": "fixed", "size": (32, 128, 128)},
        "preparation": heart_box(),
        # 100 pairs, 2000 epochs in batches of 2
        "training": {**_PUBLISHED, "steps": 100_000, "augment": flips()},
    },
    "acdc-3d": {
        "ndim": 3,
        "network": {
            **_NETWORK,
            "flow_init": 1e-5,
            "integrate": 5,
            "input_activation": False,
            "start": "he",
        },
        "preparation": heart_3d(),
        "options": {"passes": 2},
        "training": {
            **_PUBLISHED,
            "similarity": "mse",
            "lambda_similarity": 100.0,
            # Each of three stems bears its own third of the way.
            "lambda_smoothness": 8.0,
            "units": "mm",
            "second_look": 0.25,
            "teacher": 2.0,
            "clip": 1.0,
            "schedule": cosine(),
            "augment": augmentation(),
            "slices_first": {"steps": 1_000, "lr": 5e-4, "lambda_smoothness": 4.0},
            "steps": 1_500,
            "batch": 1,
            "lr": 3e-4,
            "ema": 0.99,
        },
    },
}
"""``paper``: ACDC at DiffuseReg's size. ``acdc-3d``: hours on a CPU; none of its aids is in the
paper (docs/vtn.md)."""
