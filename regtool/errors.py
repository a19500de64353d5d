"""The errors a user can meet, each with its documented exit code.

Every message is one line that names the file or option, what is wrong, and what to do about it.
"""

from __future__ import annotations

import errno


class RegtoolError(Exception):
    """Base of all expected errors; an unexpected exception is a bug and exits with 1."""

    exit_code = 1


class UsageError(RegtoolError):
    """A wrong option, value or combination of options."""

    exit_code = 2


class InputError(RegtoolError):
    """An input file that is missing, unreadable, corrupt or of the wrong kind."""

    exit_code = 3


class GeometryError(InputError):
    """Inputs whose geometry does not allow the operation (no overlap, shear, wrong dimension)."""


class WeightsError(RegtoolError):
    """Weights that are missing, corrupt, or made for something else."""

    exit_code = 4


class PluginError(RegtoolError):
    """A method whose plugin is installed but broken, clashing or too new."""

    exit_code = 5


class DeviceError(RegtoolError):
    """A device that is absent, or too little memory on it."""

    exit_code = 6


class WorseError(RegtoolError):
    """A registration that lowered the similarity, refused with ``--fail-if-worse``."""

    exit_code = 7


class PairsFailed(RegtoolError):
    """Some pairs of a cohort failed; the others are complete."""

    exit_code = 7


class OutputError(RegtoolError):
    """An output that exists already or cannot be written."""

    exit_code = 8


class Interrupted(RegtoolError):
    """Stopped by the user or by the system (SIGINT, SIGTERM)."""

    exit_code = 130


def _is_of_memory(error: BaseException) -> bool:
    """Whether PyTorch on the CPU, or oneDNN below it, had no room."""
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "DefaultCPUAllocator" in text or text == "could not create a primitive"
    )


def expected(error: BaseException) -> RegtoolError | None:
    """What an exception of a library amounts to, if that may happen to anyone: no memory, no disk.

    PyTorch's out-of-memory errors are told by their names, without importing PyTorch for it.
    """
    if isinstance(error, RegtoolError):
        return error
    found: RegtoolError | None = None
    if isinstance(error, MemoryError):
        found = DeviceError("not enough memory; use a smaller image or preset")
    elif isinstance(error, SystemError) and " without " in str(error):
        # Python fails so ("error return without exception set") where it had no room for the error.
        found = DeviceError("Python broke off, most likely for want of memory")
    elif isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        full = error.errno == errno.ENOMEM
        found = (
            DeviceError(f"{name}not enough memory")
            if full
            else OutputError(f"{name}{error.strerror or error}")
        )
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        found = DeviceError("no thread can be started: too little memory, or too many processes")
    elif type(error).__name__ == "OutOfMemoryError" or _is_of_memory(error):
        sentence = "not enough memory on the device; try --device cpu or a smaller image"
        found = DeviceError(sentence)
    if found is not None:
        found.__cause__ = error
    return found


def in_a_line(error: BaseException) -> str:
    """What is said of an exception; one that nobody expected is named as such."""
    known = expected(error)
    return str(known) if known is not None else f"unexpected {type(error).__name__}: {error}"
