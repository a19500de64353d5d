"""Network blocks for plugins; imports torch."""

from __future__ import annotations

from regtool.nn.padding import pad_to_multiple

__all__ = ["pad_to_multiple"]
