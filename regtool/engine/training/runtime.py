"""Device, precision, threads and processes of a training run, through accelerate."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regtool.engine.device import choose_device, choose_precision
from regtool.errors import DeviceError, UsageError

_NAMES = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}

NONDETERMINISTIC_CUDA = (
    "--deterministic: on CUDA the backward pass of the warp (grid_sample), of interpolation and of "
    "3-D pooling has no deterministic implementation; train with --device cpu, or leave "
    "--deterministic out: --seed still fixes the order of the pairs, the augmentation and the "
    "noise, and only the rounding of those sums stays random"
)


@dataclass
class Runtime:
    """Where and how the steps run. ``rank`` of ``world`` processes; ``main`` on the first."""

    accelerator: Any
    device: torch.device
    rank: int
    world: int
    precision: str

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def average_gradients(self, gradients: list[Tensor]) -> None:
        """Replace gradients by their mean over all processes, in one message."""
        flat = torch.cat([g.reshape(-1) for g in gradients])
        flat = self.accelerator.reduce(flat, "mean")
        start = 0
        for gradient in gradients:
            part = flat[start : start + gradient.numel()]
            gradient.copy_(part.view_as(gradient))
            start += gradient.numel()

    def agree(self, values: list[float]) -> list[float]:
        """Sums over all processes."""
        if self.world == 1:
            return values
        total = self.accelerator.reduce(
            torch.tensor(values, dtype=torch.float32, device=self.device), "sum"
        )
        return total.tolist()


def start_runtime(
    device: str, precision: str, threads: int | None, deterministic: bool, folder: str
) -> Runtime:
    """Set up accelerate for ``device`` (auto, cpu, cuda or cuda:N).

    Only ``auto`` falls back to the CPU. Raises DeviceError for an absent device or a precision it
    lacks, UsageError for a deterministic run on CUDA.
    """
    chosen = _device(device)
    if deterministic and chosen.type == "cuda":
        raise UsageError(NONDETERMINISTIC_CUDA)
    mixed = _NAMES[choose_precision(precision, chosen)]
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    accelerator = _accelerator(chosen, mixed, folder)
    return Runtime(
        accelerator, accelerator.device, accelerator.process_index, accelerator.num_processes, mixed
    )


def _device(name: str) -> torch.device:
    # `accelerate launch --cpu` says so through the environment.
    launched = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return choose_device("cpu" if name == "auto" and launched else name)


def _accelerator(device: torch.device, mixed: str, folder: str) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    # The states are singletons that remember the first run of a process, such as a notebook's.
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and PartialState._shared_state:
        AcceleratorState._reset_state(reset_partial_state=True)
    if device.index is not None:
        torch.cuda.set_device(device)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        return Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=mixed,
            log_with="tensorboard",
            project_dir=folder,
        )
    except (ValueError, RuntimeError) as error:
        raise DeviceError(f"precision {mixed} on {device}: {error}") from error
