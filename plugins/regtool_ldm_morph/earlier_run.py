"""The first stages of another run, so that ablations share one encoder and U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from regtool_ldm_morph.stage_autoencoder import AutoencoderTraining
from regtool_ldm_morph.stage_diffusion import DiffusionTraining

_ALONE = {"gan": False, "lpips": None}
"""The critic and LPIPS of that run are of no use here."""


def finished_stages(folder: str, network: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Modules by stage name from ``folder/stages``, with the networks that ``network`` describes.

    They hold the best weights that their stage has reached in that run so far. The diffusion stage
    is left out where ``network`` reads no features. Raises FileNotFoundError for a stage that was
    not trained there, ValueError for one of other sizes.
    """
    modules: dict[str, nn.Module] = {"autoencoder": AutoencoderTraining(network, _ALONE)}
    if network["features"]:
        modules["diffusion"] = DiffusionTraining(network)
    for name, module in modules.items():
        _load(module, Path(folder).expanduser() / "stages" / f"{name}.safetensors")
    return modules


def _load(module: nn.Module, file: Path) -> None:
    from safetensors.torch import load_file

    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: missing; earlier_run names a run that has trained the first stages"
        )
    stored, wanted = load_file(str(file)), module.state_dict()
    for name, tensor in wanted.items():
        if name not in stored or stored[name].shape != tensor.shape:
            raise ValueError(f"{file}: '{name}' does not fit network.autoencoder or .diffusion")
    module.load_state_dict({name: stored[name] for name in wanted})
