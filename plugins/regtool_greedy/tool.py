"""The call of greedy, in a process that imports nothing else."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SEEDS = 2**31 - 1

_GREY = 1000.0
"""greedy's correlation treats small variances as flat, on the scale of grey values and not of
[0, 1]: without this factor it sees less of the image than when it reads the file itself."""


def register(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    fixed_mask: NDArray[np.uint8] | None,
    moving_mask: NDArray[np.uint8] | None,
    spacing: tuple[float, ...],
    seed: int,
    threads: int,
    folder: str,
    **settings: Any,
) -> tuple[NDArray[np.float64], None]:
    """Return the field (*S, ndim): mm, components x, y, z; greedy's inverse is not asked for.

    Arrays are (*S), ``spacing`` in mm along their axes; ``settings`` are the fields of
    ``GreedyOptions`` with one radius for each axis. Images stay in memory, ``folder`` is not used.
    Raises RuntimeError with greedy's words when it fails.
    """
    import picsl_greedy
    import SimpleITK as sitk

    def image(array: NDArray[Any]) -> Any:
        made = sitk.GetImageFromArray(array.astype(np.float64))
        made.SetSpacing(spacing[::-1])
        return made

    images = {"fixed": image(_GREY * fixed), "moving": image(_GREY * moving)}
    masks = {"gm": fixed_mask, "mm": moving_mask}
    images |= {name: image(mask) for name, mask in masks.items() if mask is not None}
    line = command(seed, threads, **settings) + "".join(
        f" -{name} {name}" for name in masks if name in images
    )
    greedy = picsl_greedy.Greedy2D() if fixed.ndim == 2 else picsl_greedy.Greedy3D()
    greedy.execute(line, sys.stderr, sys.stderr, warp=None, **images)
    return sitk.GetArrayFromImage(greedy["warp"]), None


def command(
    seed: int,
    threads: int,
    metric: str,
    radius: tuple[int, ...],
    iterations: tuple[int, ...],
    epsilon: float,
    sigma1: float,
    sigma2: float,
    velocity: bool,
) -> str:
    """The command line of greedy, with images named ``fixed``, ``moving`` and ``warp``."""
    patch = f" {_joined(radius)}" if metric in ("ncc", "wncc") else ""
    words = [
        "-i fixed moving -o warp",
        "-wp 0",  # the field as computed, not rounded to a tenth of a voxel
        f"-m {metric.upper()}{patch}",
        f"-n {_joined(iterations)}",
        f"-e {epsilon}",
        f"-s {sigma1}vox {sigma2}vox",
        *(["-sv"] if velocity else []),
        f"-seed {seed % _SEEDS + 1}",  # 0 would mean a seed of greedy's own choice
        f"-threads {threads}",
        "-V 0",
    ]
    return " ".join(words)


def _joined(values: tuple[int, ...]) -> str:
    return "x".join(map(str, values))
