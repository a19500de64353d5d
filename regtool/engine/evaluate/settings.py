"""What an evaluation measures, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from regtool.errors import UsageError
from regtool.metrics.regions import REGIONS, Structures

LabelInterpolation = Literal["nearest", "label"]
Scheme = Literal["central", "forward"]
Intensities = Literal["stored", "unit"]

TITLES = {
    "dice": "Dice", "hd95": "HD95 (mm)", "surface_dice": "surface Dice", "tre": "TRE (mm)",
    "tre_median": "TRE, median (mm)", "tre_max": "TRE, largest (mm)", "ncc": "NCC", "mse": "MSE",
    "nmse": "NMSE", "psnr": "PSNR (dB)", "ssim": "SSIM", "folds": "folds (%)",
    "sd_jacobian": "SD of Jacobian", "sd_log_jacobian": "SD of log Jacobian",
    "inverse_error": "inverse error (mm)", "inverse_error_max": "inverse error, largest (mm)",
    "seconds": "seconds",
}  # fmt: skip
"""What every number is called, in the words of ``--metrics`` and the order of tables."""

METRICS = tuple(name for name in TITLES if not name.endswith(("_median", "_max")))
"""What ``--metrics`` may name; the others come with one of these."""

OVERLAP = ("dice", "hd95", "surface_dice")
IMAGES = ("ncc", "mse", "nmse", "psnr", "ssim")
FIELD = ("folds", "sd_jacobian", "sd_log_jacobian")


@dataclass(frozen=True)
class Settings:
    """Everything that changes a number of an evaluation.

    ``metrics``: of ``METRICS``; None means all that the record and its files allow.
    ``structures``: labels by name, whose mean is taken; None means every label by itself.
    ``names``: names of labels. ``label_interpolation``: ``nearest``, or ``label`` (one-hot linear
    with arg-max, METHODS 2.5). ``scheme``: differences of the Jacobian (METHODS 2.4). ``mask``: on
    the fixed image, for image and Jacobian measures. ``tolerance`` of the surface Dice in mm.
    ``intensities``: as stored, or ``unit`` with the fixed image's range as [0, 1].
    """

    metrics: tuple[str, ...] | None = None
    structures: Structures | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    label_interpolation: LabelInterpolation = "nearest"
    scheme: Scheme = "central"
    mask: Path | None = None
    tolerance: float = 2.0
    intensities: Intensities = "stored"
    device: str = "auto"

    def __post_init__(self) -> None:
        for metric in self.metrics or ():
            if metric not in METRICS:
                raise UsageError(f"--metrics {metric}: choose from {', '.join(METRICS)}")
        for option, value, kind in (
            ("--label-interpolation", self.label_interpolation, LabelInterpolation),
            ("--jacobian", self.scheme, Scheme),
            ("--intensities", self.intensities, Intensities),
        ):
            if value not in get_args(kind):
                raise UsageError(f"{option} {value}: choose {' or '.join(get_args(kind))}")
        if not self.tolerance >= 0:
            raise UsageError(
                f"--surface-tolerance {self.tolerance}: a distance in mm, not negative"
            )

    def wants(self, metric: str) -> bool:
        """Whether a metric is measured where that is possible."""
        return self.metrics is None or metric in self.metrics

    def demands(self, metrics: Sequence[str]) -> bool:
        """Whether one of these was asked for by name, so that its absence is an error."""
        return self.metrics is not None and any(m in self.metrics for m in metrics)

    def as_dict(self) -> dict[str, Any]:
        """What belongs beside the numbers, ready for JSON."""
        return {
            "label_interpolation": self.label_interpolation,
            "structures": None if self.structures is None
            else {name: list(labels) for name, labels in self.structures.items()},
            "surface_tolerance_mm": self.tolerance,
            "jacobian_differences": self.scheme,
            "mask": None if self.mask is None else str(self.mask),
            "intensities": self.intensities,
        }  # fmt: skip


def parse_metrics(text: str | None) -> tuple[str, ...] | None:
    """``dice,hd95`` as names; hyphens count as underscores. None stays None."""
    if text is None:
        return None
    wanted = tuple(part.strip().replace("-", "_") for part in text.split(",") if part.strip())
    if not wanted:
        raise UsageError(f"--metrics '{text}': name some of {', '.join(METRICS)}")
    return wanted


def parse_structures(
    groups: Sequence[str], regions: str | None, names: Mapping[int, str]
) -> Structures | None:
    """The structures of ``--regions`` and ``--group NAME=1+2``, in this order; None without any.

    Members are numbers, or names of the label table. Raises UsageError for anything else.
    """
    if regions is not None and regions not in REGIONS:
        raise UsageError(f"--regions {regions}: choose from {', '.join(REGIONS)}")
    found: Structures = dict(REGIONS[regions]) if regions is not None else {}
    numbers = {name.casefold(): label for label, name in names.items()}
    for text in groups:
        name, equals, members = (part.strip() for part in text.partition("="))
        if not (name and equals and members):
            raise UsageError(f"--group {text}: write NAME=1+2, labels joined by plus signs")
        if name in found:
            raise UsageError(f"--group {text}: there is a structure {name!r} already")
        found[name] = tuple(_label(text, part.strip(), numbers) for part in members.split("+"))
    return found or None


def _label(text: str, member: str, numbers: Mapping[str, int]) -> int:
    try:
        return int(member)
    except ValueError:
        pass
    if member.casefold() not in numbers:
        known = "the label table" if numbers else "a label table (--names)"
        raise UsageError(f"--group {text}: {member!r} is no number and no name in {known}")
    return numbers[member.casefold()]
