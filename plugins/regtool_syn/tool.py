"""The call of ANTs, in a process that imports nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def register(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    fixed_mask: NDArray[np.uint8] | None,
    moving_mask: NDArray[np.uint8] | None,
    spacing: tuple[float, ...],
    seed: int,
    threads: int,
    folder: str,
    metric: str,
    sampling: int,
    iterations: tuple[int, ...],
    gradient_step: float,
    flow_sigma: float,
    total_sigma: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return field and inverse field (*S, ndim): mm, components x, y, z.

    Arrays are (*S), ``spacing`` in mm along their axes. Nothing here is random (both metrics look
    at every voxel), so ``seed`` is not used; the process was started with ``threads`` threads.
    Raises RuntimeError when ANTs fails.
    """
    import ants

    def image(array: NDArray[Any] | None) -> Any:
        # ANTs indexes arrays by (x, y, z).
        axes_reversed = None if array is None else np.ascontiguousarray(array.T, dtype=np.float32)
        return None if array is None else ants.from_numpy(axes_reversed, spacing=spacing[::-1])

    ants.registration(
        image(fixed),
        image(moving),
        type_of_transform="SyNOnly",
        initial_transform="Identity",  # the default would align the centres of mass
        outprefix=f"{folder}/",
        mask=image(fixed_mask),
        moving_mask=image(moving_mask),
        grad_step=gradient_step,
        flow_sigma=flow_sigma,
        total_sigma=total_sigma,
        syn_metric=metric,
        syn_sampling=sampling,
        reg_iterations=iterations,
    )

    def field(name: str) -> NDArray[np.float32]:
        values = ants.image_read(str(Path(folder, name))).numpy()
        spatial = range(values.ndim - 2, -1, -1)
        return np.ascontiguousarray(values.transpose(*spatial, values.ndim - 1), dtype=np.float32)

    return field("1Warp.nii.gz"), field("1InverseWarp.nii.gz")
