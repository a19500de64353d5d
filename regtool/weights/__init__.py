"""Find, check and load the weights of a method."""

from __future__ import annotations

from regtool.weights.files import file_sha256, read_config, read_header
from regtool.weights.resolve import is_path, locate, peek, resolve
from regtool.weights.resolved import ResolvedWeights
from regtool.weights.state import load_into, load_state, network_differences

__all__ = [
    "ResolvedWeights",
    "file_sha256",
    "is_path",
    "load_into",
    "load_state",
    "locate",
    "network_differences",
    "peek",
    "read_config",
    "read_header",
    "resolve",
]
