"""Presets of DiffuseMorph in plain data: network, preparation, training."""

from __future__ import annotations

from typing import Any

DIFFUSEMORPH: dict[str, dict[str, Any]] = {}
