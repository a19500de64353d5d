"""The errors a user can meet, each with its documented exit code.

Every message is one line that names the file or option, what is wrong, and what to do about it.
"""

from __future__ import annotations


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


class OutputError(RegtoolError):
    """An output that exists already or cannot be written."""

    exit_code = 8


class Interrupted(RegtoolError):
    """Stopped by the user or by the system (SIGINT, SIGTERM)."""

    exit_code = 130
