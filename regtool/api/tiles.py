"""Overlapping tiles, blended, for methods that cut volumes themselves; imports torch."""

from __future__ import annotations

from regtool.prepare.tiles import blended, plan_tiles

__all__ = ["blended", "plan_tiles"]
