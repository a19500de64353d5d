"""Network blocks for plugins; imports torch."""

from __future__ import annotations

from regtool.nn.attention import ATTENTION, FullAttention, LinearAttention, linear_attention
from regtool.nn.convolution import convolution, double, narrow_convolution, quick_convolution
from regtool.nn.inflate import inflate
from regtool.nn.padding import cropped, pad_to_multiple
from regtool.nn.residual import Layer, ResidualBlock, TimeEmbedding, orthogonal
from regtool.nn.score import Scored, ScoreNetwork
from regtool.nn.swin import PatchMerging, SwinBlock, SwinEncoder, WindowAttention
from regtool.nn.windows import (
    merge,
    pad_to_windows,
    partition,
    relative_index,
    roll,
    shift_mask,
)

__all__ = [
    "ATTENTION",
    "FullAttention",
    "Layer",
    "LinearAttention",
    "PatchMerging",
    "ResidualBlock",
    "ScoreNetwork",
    "Scored",
    "SwinBlock",
    "SwinEncoder",
    "TimeEmbedding",
    "WindowAttention",
    "convolution",
    "cropped",
    "double",
    "inflate",
    "linear_attention",
    "merge",
    "narrow_convolution",
    "orthogonal",
    "pad_to_multiple",
    "pad_to_windows",
    "partition",
    "quick_convolution",
    "relative_index",
    "roll",
    "shift_mask",
]
