"""``--init-weights``: start from named weights, a weights folder or a run's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from regtool.engine.training.checkpoint import FORMAT, load_tensors
from regtool.errors import InputError, WeightsError
from regtool.paths import expanded, is_file
from regtool.plugins.description import Method
from regtool.weights import network_differences, resolve


def load_initial(
    spec: str, module: nn.Module, registrar: nn.Module, method: Method, ndim: int
) -> None:
    """Load weights into ``module``, strictly.

    ``spec``: what ``--weights`` of ``register`` takes (for the part ``registrar``), a run folder,
    or a checkpoint of a run (its moving average if it has one). Raises WeightsError.
    """
    path = expanded(spec)
    if is_file(path / "checkpoint.safetensors"):
        path = path / "checkpoint.safetensors"
    state = _from_checkpoint(path)
    if state is None:
        resolve(method, spec, ndim).load_into(registrar)
        return
    differences = network_differences(module, state)
    if differences:
        raise WeightsError(f"--init-weights {path}: does not fit: {differences[0]}")
    module.load_state_dict(state)


def _from_checkpoint(path: Path) -> dict[str, Tensor] | None:
    """Model weights of a training checkpoint; None if ``path`` is something else."""
    if path.suffix != ".safetensors" or not is_file(path):
        return None
    try:
        tensors, metadata = load_tensors(path)
    except InputError as error:
        raise WeightsError(f"--init-weights {error}") from error
    if metadata.get("format") != FORMAT:
        return None
    return _group(tensors, "model") | _group(tensors, "ema")


def _group(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
