"""Presets of LDM-Morph in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import augmentation, constant, cosine, heart_2d, heart_2d_half

_ULTRASOUND: dict[str, Any] = {
    "orientation": "file",
    "spacing": (None, None),
    "size": (128, 128),
    "fit": (True, True),
    "margin": 8,
    "intensity": [{"kind": "minmax"}],
}
"""The whole image stretched over 112 x 112, with 8 voxels around it, as the paper has CAMUS and
EchoNet-Dynamic."""

_SWITCHES: dict[str, Any] = {
    "features": True,
    "cross_attention": True,
    "second_block": "cross",
    "noise": "shared",
    "time": 1,
    "integrate": 0,
}
"""``features`` off is the ablation's lower stream only, ``cross_attention`` off leaves LGCA out.
``integrate``: 0 puts out a displacement, as the paper; N a velocity, integrated in N squarings."""

_LOSS: dict[str, Any] = {
    "similarity": "mse",
    "beta": 0.6,
    "double_beta": False,
    "latent_grad": True,
    "latent_scale": "none",
    "second_look": 0.0,
    "teacher": 0.0,
    "earlier_run": None,
    "clip": None,
}
"""``second_look``: how often a batch is what a second pass (option ``passes``) would see,
``teacher``: the weight of the distance from what instance optimisation finds.
``earlier_run``: folder of a run, or of finished weights, whose autoencoder and diffusion model are
taken as they are."""

_AUTOENCODER: dict[str, Any] = {
    "quantiser": True,
    "quantise_from": 0,
    "codes_from_data": False,
    "reconstruction": "l1",
    "code_weight": 1.0,
    "lpips": None,
    "lpips_weight": 1.0,
    "gan": False,
    "gan_from": 40_000,
    "gan_weight": 0.75,
}
"""``lpips`` is the path of a safetensors file; ``reconstruction`` may also be l1+gradient."""

LDM_MORPH: dict[str, dict[str, Any]] = {
    "paper": {
        "ndim": 2,
        "network": {
            "autoencoder": {
                "widths": (128, 256, 512),
                "layers": 2,
                "groups": 32,
                "attention": True,
                "channels": 1,
                "codes": 16_384,
                "rescale": False,
            },
            "diffusion": {"widths": (64, 128, 192, 256), "head": 32, "groups": 32},
            "registration": {
                "width": 64,
                "depths": (2, 2, 4, 2),
                "heads": (4, 4, 8, 8),
                "cross_heads": 4,
                "windows": (7, 7, 7, 7),
                "drop_path": 0.3,
                "unused": False,
            },
            **_SWITCHES,
        },
        "preparation": heart_2d(),
        "training": {
            **_LOSS,
            "smoothness": 0.01,
            "ema": None,
            "steps": 24_000,
            "val_every": 400,
            "batch": 1,
            "lr": 1e-4,
            "schedule": constant(),
            "stages": {
                # The base rates 4.5e-6 and 1e-6 times batch and accumulation of the paper, for one
                # GPU; a pair is two of its images.
                "autoencoder": {
                    **_AUTOENCODER,
                    "steps": 100_000,
                    "batch": 10,
                    "lr": 9e-5,
                    "augment": {"flip": ("x",)},
                },
                "diffusion": {"steps": 100_000, "batch": 20, "lr": 4e-5, "ema": None},
            },
        },
    },
    "compact": {
        "ndim": 2,
        "network": {
            "autoencoder": {
                "widths": (16, 32, 64),
                "layers": 1,
                "groups": 8,
                "attention": False,
                "channels": 1,
                "codes": 1_024,
                "rescale": True,
            },
            "diffusion": {"widths": (32, 64, 96, 128), "head": 32, "groups": 16},
            "registration": {
                "width": 24,
                "depths": (2, 2, 4, 2),
                "heads": (4, 4, 8, 8),
                "cross_heads": 4,
                "windows": (8, 8, 8, 4),
                "drop_path": 0.05,
                "unused": False,
            },
            **_SWITCHES,
            "integrate": 6,
        },
        "preparation": heart_2d(),
        "options": {"passes": 2},
        "training": {
            **_LOSS,
            "latent_scale": "image",
            "second_look": 0.25,
            "teacher": 0.02,
            "smoothness": 0.02,
            "ema": 0.99,
            "steps": 3_000,
            "val_every": 250,
            "batch": 8,
            "lr": 1e-3,
            "schedule": cosine(100),
            "augment": augmentation(),
            "stages": {
                "autoencoder": {
                    **_AUTOENCODER,
                    "reconstruction": "l1+gradient",
                    "quantise_from": 300,
                    "codes_from_data": True,
                    "steps": 2_000,
                    "val_every": 500,
                    "batch": 2,
                    "lr": 1e-3,
                },
                "diffusion": {
                    "steps": 2_000,
                    "val_every": 1_000,
                    "batch": 4,
                    "lr": 5e-4,
                    "ema": None,
                },
            },
        },
    },
    "trial": {
        "ndim": 2,
        "network": {
            "autoencoder": {
                "widths": (8, 16, 16),
                "layers": 1,
                "groups": 8,
                "attention": False,
                "channels": 1,
                "codes": 256,
                "rescale": True,
            },
            "diffusion": {"widths": (16, 16, 32, 32), "head": 16, "groups": 8},
            "registration": {
                "width": 16,
                "depths": (2, 2, 2, 2),
                "heads": (2, 2, 4, 4),
                "cross_heads": 2,
                "windows": (4, 4, 4, 4),
                "drop_path": 0.0,
                "unused": False,
            },
            **_SWITCHES,
        },
        "preparation": heart_2d_half(),
        "training": {
            **_LOSS,
            "latent_scale": "image",
            "smoothness": 0.015,
            "ema": None,
            "steps": 500,
            "batch": 8,
            "lr": 1e-3,
            "schedule": cosine(20),
            "stages": {
                "autoencoder": {
                    **_AUTOENCODER,
                    "quantise_from": 50,
                    "codes_from_data": True,
                    "steps": 200,
                    "batch": 8,
                    "lr": 2e-3,
                },
                "diffusion": {"steps": 200, "batch": 8, "lr": 1e-3, "ema": None},
            },
        },
    },
}
LDM_MORPH |= {
    f"{name}-ultrasound": {**LDM_MORPH[name], "preparation": _ULTRASOUND}
    for name in ("paper", "compact")
}
_TRAINING = LDM_MORPH["paper-ultrasound"]["training"]
LDM_MORPH["paper-ultrasound"]["training"] = {
    **_TRAINING,
    "stages": {
        **_TRAINING["stages"],
        # Batches of 20 images, not 40 as of ACDC.
        "diffusion": {**_TRAINING["stages"]["diffusion"], "batch": 10, "lr": 2e-5},
    },
}
"""``paper``: sizes and settings of the paper. ``compact``: what ships; trains on two CPU cores in
two hours. ``-ultrasound``: the same on whole images of CAMUS and EchoNet-Dynamic. ``trial``: a few
minutes, to see the three stages at work."""
