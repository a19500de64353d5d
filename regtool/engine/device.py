"""Choice of device, precision and threads; only ``auto`` falls back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import SimpleITK as sitk
import torch

from regtool.errors import DeviceError, UsageError

log = logging.getLogger("regtool.engine")

PRECISIONS = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` means here.

    Raises UsageError for another word, DeviceError for a CUDA device that is absent.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: choose auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"--device {name}: torch sees {count} CUDA devices; use --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the number format of the network's inner arithmetic.

    Raises UsageError for an unknown name, DeviceError for fp16 on the CPU.
    """
    if name not in PRECISIONS:
        raise UsageError(f"--precision {name}: choose fp32, bf16 or fp16")
    if PRECISIONS[name] is torch.float16 and device.type == "cpu":
        raise DeviceError("--precision fp16 needs a GPU; on the CPU use bf16 or fp32")
    return PRECISIONS[name]


@contextlib.contextmanager
def computing(device: torch.device, precision: torch.dtype, threads: int | None) -> Iterator[None]:
    """No gradients, mixed precision, and the given number of PyTorch's threads, in the block.

    ITK's threads are left alone: their number belongs to the whole process, where another thread
    may be aligning the next pair.
    """
    mixed = torch.autocast(device.type, dtype=precision, enabled=precision is not torch.float32)
    with _torch_threads(threads), torch.no_grad(), mixed:
        yield


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """At most this many CPU threads in PyTorch and ITK while the block runs; None: no limit.

    For a whole command; inside of it ``computing`` limits what a network does.
    """
    if not threads:
        yield
        return
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    try:
        with _torch_threads(threads):
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@contextlib.contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if not threads:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
