"""Load stored tensors and put them into a network, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regtool.errors import WeightsError
from regtool.weights.files import TensorInfo, read_header

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHOWN = 5


def load_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name, on the CPU, half precision widened to float32.

    Raises WeightsError if the file is damaged or a value is not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be loaded ({error})") from error
    return {name: _widen(path, name, tensor) for name, tensor in stored.items()}


def _widen(path: Path, name: str, tensor: Tensor) -> Tensor:
    import torch

    if not tensor.is_floating_point():
        return tensor
    if not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{path}: '{name}' holds values that are not finite: damaged")
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def network_differences(
    network: nn.Module, tensors: Mapping[str, TensorInfo] | Mapping[str, Tensor]
) -> list[str]:
    """What does not fit between a network and stored tensors, one readable phrase each.

    Compares names, shapes, and whether values are floating-point; half against single precision
    is no difference. An empty list means that a strict load succeeds.
    """
    differences = []
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        shape = _shape(tensor.shape)
        if name not in tensors:
            differences.append(f"'{name}' ({shape}) is missing")
            continue
        found = tensors[name]
        floating = found.floating if isinstance(found, TensorInfo) else found.is_floating_point()
        if tuple(found.shape) != tuple(tensor.shape):
            differences.append(f"'{name}' is {_shape(found.shape)}, the network has {shape}")
        elif floating != tensor.is_floating_point():
            differences.append(f"'{name}' is {found.dtype}, the network has {tensor.dtype}")
    extra = [name for name in tensors if name not in wanted]
    return differences + [f"'{name}' ({_shape(tensors[name].shape)}) is unknown" for name in extra]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape) or "scalar"


def load_into(network: nn.Module, path: Path) -> None:
    """Load a safetensors file into a network of the same names and shapes, with a strict load.

    Names and shapes are compared on the file's header first, so that nothing is changed and no
    large tensor is read when they differ. Raises WeightsError with the first differences.
    """
    differences = network_differences(network, read_header(path))
    if differences:
        more = len(differences) - _SHOWN
        tail = f"; and {more} more" if more > 0 else ""
        raise WeightsError(
            f"{path}: does not fit the network of its config.json: "
            + "; ".join(differences[:_SHOWN])
            + tail
        )
    network.load_state_dict(load_state(path), strict=True)
