"""Encoder and U-Net of another run, or of finished weights, for the registration stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from regtool.api import InputError
from regtool_ldm_morph.stage_autoencoder import AutoencoderTraining
from regtool_ldm_morph.stage_diffusion import DiffusionTraining
from regtool_ldm_morph.tensor_files import read_tensors

_ALONE = {"gan": False, "lpips": None}
"""The critic and LPIPS of that run are of no use here."""


def frozen_parts(folder: str) -> dict[str, Tensor] | None:
    """Tensors of ``folder/model.safetensors``, a folder of finished weights; None if it is none.

    Weights hold the encoder and as much of the U-Net as registration needs.
    """
    file = _finished(folder)
    if not file.is_file():
        return None
    return {name: tensor.float() for name, tensor in read_tensors(file).items()}


def load_part(module: nn.Module, tensors: Mapping[str, Tensor], name: str, folder: str) -> None:
    """Fill ``module`` from the tensors under ``name.``; raises InputError where they do not fit."""
    prefix = f"{name}."
    stored = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    _fill(module, stored, f"{folder}: {name}")


def finished_stages(folder: str, network: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Modules by stage name from ``folder/stages``, with the networks that ``network`` describes.

    They hold the best weights that their stage has reached in that run so far. The diffusion stage
    is left out where ``network`` reads no features. Raises InputError for a stage that was not
    trained there, or one of other sizes.
    """
    modules: dict[str, nn.Module] = {"autoencoder": AutoencoderTraining(network, _ALONE)}
    if network["features"]:
        modules["diffusion"] = DiffusionTraining(network)
    for name, module in modules.items():
        file = _present(folder, name)
        _fill(module, read_tensors(file), str(file))
    return modules


def check_earlier_run(folder: str, features: bool) -> None:
    """Refuse a folder that has neither finished weights nor the stages. Raises InputError."""
    if not _finished(folder).is_file():
        for name in ("autoencoder", "diffusion") if features else ("autoencoder",):
            _present(folder, name)


def _finished(folder: str) -> Path:
    return Path(folder).expanduser() / "model.safetensors"


def _present(folder: str, stage: str) -> Path:
    file = Path(folder).expanduser() / "stages" / f"{stage}.safetensors"
    if not file.is_file():
        raise InputError(
            f"{file}: missing; earlier_run names a run that has trained the first stages"
        )
    return file


def _fill(module: nn.Module, stored: Mapping[str, Tensor], origin: str) -> None:
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in stored or stored[name].shape != tensor.shape:
            raise InputError(f"{origin}: '{name}' does not fit network.autoencoder or .diffusion")
    module.load_state_dict({name: stored[name] for name in wanted})
