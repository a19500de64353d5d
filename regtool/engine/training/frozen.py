"""Fingerprints of the parts of a module that a stage keeps as an earlier stage left them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def fingerprints(module: nn.Module, prefixes: tuple[str, ...]) -> dict[str, str]:
    """sha256 of the state under each name prefix: names, types, shapes and values.

    The same weights give the same digest on every device and in every memory format.
    """
    state = module.state_dict()
    return {
        prefix: _digest({k: v for k, v in state.items() if k.startswith(prefix)})
        for prefix in prefixes
    }


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
