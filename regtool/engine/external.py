"""Registration by tools outside of PyTorch: their presence, their arrays, their fields."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regtool.engine.worker import call
from regtool.errors import GeometryError, PluginError, RegtoolError
from regtool.plugins import discovery
from regtool.plugins.exchange import Context, Pair, Prediction, Sample

LEAST = 4
"""Voxels that ITK's recursive smoothing needs along an axis."""


def require(module: str, distribution: str, method: str) -> None:
    """Raise PluginError, saying what to install, unless the Python module is there.

    ``distribution`` is what pip installs; an extra of the method's name, in the distribution that
    the method comes from, brings it.
    """
    if importlib.util.find_spec(module) is None:
        try:
            owner = f"'{discovery.find(method).distribution}[{method}]' (or {distribution} itself)"
        except RegtoolError:  # not installed as a method
            owner = distribution
        raise PluginError(
            f"method '{method}' needs {distribution}, which is not installed; pip install {owner}"
        )


def register_each(
    pair: Pair, context: Context, method: str, function: str, settings: Mapping[str, Any]
) -> Prediction:
    """Register every pair of a batch by a function that runs in a process of its own.

    ``function`` (``"package.module:name"``) is called with ``fixed`` and ``moving`` (float32,
    (*S)), ``fixed_mask`` and ``moving_mask`` (uint8, (*S), or None), ``spacing`` (mm, along the
    array's axes), ``seed``, ``threads``, ``folder`` (empty, private, removed afterwards) and
    ``settings``. It returns ``(field, inverse)``: arrays (*S, ndim) in mm with components x, y, z
    along the array's axes in reverse order, as ITK has them for an image without rotation; fixed to
    moving points, and back; ``inverse`` may be None.

    The answer is in voxels along tensor axes. A constant image or an empty mask leaves nothing to
    register and gives zero. Raises GeometryError for axes shorter than four voxels, PluginError
    when the function fails.
    """
    image = pair.fixed.image
    _check(image, method)
    spacing = tuple(float(s) for s in pair.fixed.spacing)
    fields, inverses = [], []
    for index in range(image.shape[0]):
        fixed, moving = (_images(sample, index) for sample in (pair.fixed, pair.moving))
        if _empty(*fixed) or _empty(*moving):
            field: NDArray[Any] = np.zeros((*image.shape[2:], len(spacing)), np.float32)
            inverse: NDArray[Any] | None = field
        else:
            with tempfile.TemporaryDirectory(prefix=f"regtool-{method}-") as folder:
                arguments = {
                    "fixed": fixed[0],
                    "moving": moving[0],
                    "fixed_mask": fixed[1],
                    "moving_mask": moving[1],
                    "spacing": spacing,
                    "seed": context.generator.initial_seed(),
                    "threads": torch.get_num_threads(),
                    "folder": folder,
                    **settings,
                }
                field, inverse = call(
                    function,
                    arguments,
                    threads=torch.get_num_threads(),
                    what=f"method '{method}'",
                )
        fields.append(to_voxels(field, spacing))
        inverses.append(None if inverse is None else to_voxels(inverse, spacing))
        context.report(index + 1, image.shape[0])
    present = [inverse for inverse in inverses if inverse is not None]
    return Prediction(
        displacement=torch.stack(fields).to(image.device),
        inverse=torch.stack(present).to(image.device) if len(present) == len(fields) else None,
    )


def to_voxels(field: NDArray[Any], spacing: tuple[float, ...]) -> Tensor:
    """A field (*S, ndim), components x, y, z in mm, as displacement (ndim, *S) float32 in voxels.

    ``spacing`` is in mm along the tensor axes (z, y, x), which components of the answer follow.
    """
    voxels = np.asarray(field)[..., ::-1] / np.asarray(spacing)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(voxels, -1, 0), dtype=np.float32))


def _check(image: Tensor, method: str) -> None:
    shape = tuple(image.shape[2:])
    if image.shape[1] != 1:
        raise PluginError(f"method '{method}' takes one channel, not {image.shape[1]}")
    if min(shape) < LEAST:
        advice = "; add --slices z to register slice by slice" if len(shape) == 3 else ""
        raise GeometryError(
            f"method '{method}' needs {LEAST} voxels along every axis and this image has "
            f"{' x '.join(map(str, shape[::-1]))}{advice}"
        )


def _images(sample: Sample, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """Image and mask of one member of a batch, (*S)."""
    image = sample.image[index, 0].float().cpu().numpy()
    if sample.mask is None:
        return image, None
    return image, (sample.mask[index, 0] > 0).to(torch.uint8).cpu().numpy()


def _empty(image: NDArray[np.float32], mask: NDArray[np.uint8] | None) -> bool:
    return bool(image.min() == image.max()) or (mask is not None and not mask.any())
