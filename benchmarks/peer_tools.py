"""Other registration tools on a prepared pair, for ``peers.py``: elastix and ConvexAdam.

Each takes images (*S) on one grid, in [0, 1], and the spacing in mm in tensor axis order, and
returns a displacement (ndim, *S) in voxels and tensor axis order. ANTs SyN and greedy are methods
of regtool and need nothing here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]
Tool = Callable[[Array, Array, tuple[float, ...], int], NDArray[np.floating]]


def elastix(
    fixed: Array, moving: Array, spacing: tuple[float, ...], threads: int
) -> NDArray[np.floating]:
    """elastix's own default B-spline parameter map (Mattes mutual information), seeded."""
    import itk

    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)

    def image(array: Array):
        made = itk.image_from_array(np.ascontiguousarray(array, np.float32))
        made.SetSpacing([float(h) for h in spacing[::-1]])
        return made

    parameters = itk.ParameterObject.New()
    levels = max(1, min(4, int(np.log2(min(fixed.shape) / 4)) + 1))
    default = parameters.GetDefaultParameterMap("bspline", levels)
    default["WriteResultImage"] = ["false"]
    default["RandomSeed"] = ["1"]
    default["ErodeMask"] = ["false"]
    parameters.AddParameterMap(default)
    _, found = itk.elastix_registration_method(
        image(fixed), image(moving), parameter_object=parameters, log_to_console=False,
        number_of_threads=threads,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # it writes the field into a file, too
        field = itk.array_from_image(
            itk.transformix_deformation_field(image(moving), found, output_directory=folder)
        )
    u = np.moveaxis(field, -1, 0)[::-1]  # components x, y, z to tensor axes
    return np.stack([c / h for c, h in zip(u, spacing, strict=True)])


def convexadam(
    fixed: Array, moving: Array, spacing: tuple[float, ...], threads: int
) -> NDArray[np.floating]:
    """ConvexAdam on MIND features, with the settings its authors publish as defaults."""
    from convexAdam.convex_adam_MIND import convex_adam_pt

    torch.set_num_threads(threads)
    found = convex_adam_pt(
        torch.from_numpy(fixed), torch.from_numpy(moving), dtype=torch.float32,
        device=torch.device("cpu"),
    )  # fmt: skip
    return np.moveaxis(np.asarray(found), -1, 0)


TOOLS: dict[str, Tool] = {"elastix": elastix, "convexadam": convexadam}
