"""Small forms of LDM-Morph for its tests."""

from __future__ import annotations

import copy
from typing import Any

from regtool_ldm_morph.presets import LDM_MORPH


def preset(name: str = "trial", **changes: Any) -> dict[str, Any]:
    """A preset with keys of its network or training replaced."""
    config = copy.deepcopy(LDM_MORPH[name])
    for key, value in changes.items():
        part = config["network"] if key in config["network"] else config["training"]
        assert key in part
        part[key] = value
    return config
