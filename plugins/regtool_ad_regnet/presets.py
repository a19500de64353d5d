"""Presets of AD-RegNet in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

from regtool.api.presets import percentiles
from regtool_ad_regnet.training_presets import (
    BRAIN_TRAINING,
    LUNG_TRAINING,
    PAPER_TRAINING,
    TRIAL_TRAINING,
)

_NETWORK: dict[str, Any] = {
    "widths": (32, 64, 128, 256, 512),
    "attention": True,
    "regional": True,
    "multiresolution": True,
    "heads": 4,
    "window": 4,
    "cap": 16_384,
    "alpha": 0.5,
    "patch": 24,
    "fusion": "blend",
    "gate": 32,
    "checkpointing": True,
    "stem": 1,
    "compare": 0,
    "correlate": 0,
    "offsets": False,
    "guided": False,
    "soft_regions": False,
    "regions_gate": True,
    "flow_init": None,
    "flow_scale": None,
    "integrate": 0,
    "dropout": 0.0,
}
"""As published where the paper says it (docs/ad-regnet.md)."""

_AIDS: dict[str, Any] = {
    **_NETWORK,
    "cap": 2048,
    "patch": 16,
    "alpha": 0.2,
    "fusion": "compose",
    "gate": 16,
    "checkpointing": False,
    "compare": 16,
    "correlate": 1,
    "offsets": True,
    "guided": True,
    "soft_regions": True,
    "regions_gate": False,
    "flow_init": 1e-5,
    "flow_scale": 0.25,
    "integrate": 5,
}
"""What lets hours on a CPU be enough; none of it is in the paper (docs/ad-regnet.md)."""

_HALF: dict[str, Any] = {**_AIDS, "widths": (16, 32, 64, 128), "stem": 2}
"""Widths 8 to 128 without the finest level, whose place an entrance of 2 x 2 x 2 voxels takes."""

_IXI: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": (1.0, 1.0, 1.0),
    "size": (None, None, None),
    "multiple": 16,
    "intensity": [{"kind": "minmax"}],
    "initial": "affine",
}
"""Stripped brains at 1 mm after affine alignment (IXI as distributed with TransMorph)."""

_DIRLAB: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": (1.0, 1.0, 1.0),
    "size": (None, None, None),
    "multiple": 16,
    "intensity": [{"kind": "window", "low": -1000.0, "high": -200.0}],
}
"""Breaths at 1 mm, the whole image (the paper pads or crops to 256 cubed)."""


def _sized(*widths: int, **changes: Any) -> dict[str, Any]:
    return {
        "ndim": 3,
        "network": {**_NETWORK, "widths": widths, **changes},
        "preparation": _IXI,
        "training": PAPER_TRAINING,
    }


_PAPER = _sized(32, 64, 128, 256, 512)

AD_REGNET: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "paper-lung": {
        **_PAPER,
        "network": {**_NETWORK, "patch": 16},
        "preparation": _DIRLAB,
    },
    "paper-tiles": {
        **_PAPER,
        "preparation": {**_IXI, "size": (96, 96, 96), "outside": "tiles", "overlap": 0.5},
        "training": {**PAPER_TRAINING, "patch": (96, 96, 96)},
    },
    "medium": _sized(16, 32, 64, 128, 256),
    "small": _sized(8, 16, 32, 64, 128),
    "brain": {
        "ndim": 3,
        "anatomy": "brain",
        "modality": "T1 MR",
        "network": _HALF,
        "preparation": {
            "orientation": "LPS",
            "spacing": (2.0, 2.0, 2.0),
            "size": (80, 112, 80),
            "anchor": "intensity",
            "intensity": percentiles(),
            "initial": "affine",
        },
        "options": {"passes": 2},
        "training": BRAIN_TRAINING,
    },
    "lung": {
        "ndim": 3,
        "anatomy": "lung",
        "modality": "CT",
        "network": _HALF,
        "preparation": {
            "orientation": "LPS",
            "spacing": (4.0, 4.0, 4.0),
            "size": (80, 80, 96),
            "anchor": "intensity",
            "intensity": [{"kind": "window", "low": -1000.0, "high": 0.0}],
        },
        "options": {"passes": 2},
        "training": LUNG_TRAINING,
    },
    "trial": {
        "ndim": 3,
        "network": {**_HALF, "widths": (8, 16, 32, 64), "compare": 8},
        "preparation": {
            "orientation": "LPS",
            "spacing": (5.0, 5.0, 5.0),
            "size": (64, 64, 64),
            "anchor": "intensity",
            "intensity": [{"kind": "window", "low": -1000.0, "high": 0.0}],
        },
        "training": TRIAL_TRAINING,
    },
}
"""``paper``: IXI; ``paper-lung``: DIR-Lab; ``paper-tiles``: for volumes that do not fit; ``medium``
and ``small``: fewer channels. ``brain`` and ``lung``: hours on a CPU, fields at half the
resolution; ``trial``: lungs at 5 mm with fewer channels, for the study of the parts."""
