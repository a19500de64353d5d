"""Network blocks for plugins; imports torch."""

from __future__ import annotations

from regtool.nn.padding import pad_to_multiple
from regtool.nn.swin import PatchMerging, SwinBlock, SwinEncoder, WindowAttention

__all__ = ["PatchMerging", "SwinBlock", "SwinEncoder", "WindowAttention", "pad_to_multiple"]
