"""A thorax scanned once, as something that can breathe: its lungs found, its noise removed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.data.phantoms.lung_anatomy import Anatomy
from regtool.data.phantoms.pair import Floats, Points
from regtool.data.phantoms.shapes import smoothstep
from regtool.errors import InputError
from regtool.imaging.reading import read_image
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid

AIR_HU = -400  # the usual border of lung and soft tissue
DEPTHS_MM = (6, 9, 12, 16)
NOISE_HU = 12.0, 24.0
"""Range of the standard deviation of the new noise."""


class ScannedThorax:
    """A CT volume in Hounsfield units as a function of position, LPS mm about ``middle``.

    The scan is smoothed by half a voxel, so that its own noise, which would be common to both
    images of a pair, falls below the noise added to each. Raises InputError unless both lungs are
    found.
    """

    def __init__(self, volume: Volume) -> None:
        from scipy import ndimage

        self.grid: Grid = volume.grid
        values = np.clip(np.asarray(volume.array, np.float32), -1024, 3071)
        self._labels = find_lungs(values, volume.grid, volume.name)
        calm = ndimage.gaussian_filter(values, 0.5, mode="nearest")
        self._calm = ndimage.spline_filter(calm, order=3, mode="nearest", output=np.float32)
        self._air = (self._labels > 0).astype(np.float32)
        place = np.argwhere(self._labels > 0)[:, ::-1]
        world = place @ volume.grid.index_to_world[:3, :3].T + np.asarray(volume.grid.origin)
        low, high = world.min(0), world.max(0)
        self.middle = tuple(float(v) for v in (low + high) / 2)
        self.size = tuple(float(v) for v in (high - low)[::-1])
        self._name = volume.name

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the lungs and the chest wall are."""
        try:
            return Anatomy.of(self.lungs_at, self.size, np.zeros(3, np.float32))
        except ValueError as error:
            raise InputError(f"{self._name}: {error} found in the image") from error

    def grid_around(self, margin: float, spacing: float | None) -> Grid:
        """The part of the scan within ``margin`` mm of the lungs, isotropic at ``spacing`` mm.

        Without ``spacing`` the scan's own remains.
        """
        own = np.asarray(self.grid.spacing)
        place = np.argwhere(self._labels > 0)[:, ::-1]
        low = np.maximum(place.min(0) - margin / own - 0.5, -0.5)
        high = np.minimum(place.max(0) + margin / own + 0.5, np.asarray(self.grid.size) - 0.5)
        step = own if spacing is None else np.full(3, float(spacing))
        size = np.maximum(1, np.floor((high - low) * own / step + 1e-6)).astype(int)
        first = (low + high) / 2 - (size - 1) / 2 * step / own
        origin = self.grid.index_to_world[:3, :3] @ first + np.asarray(self.grid.origin)
        return Grid(
            tuple(int(n) for n in size),
            tuple(float(v) for v in step),
            self.grid.direction,
            tuple(float(v) for v in origin),
        )

    def lungs_at(self, p: Points) -> NDArray[np.uint8]:
        """1 in the right lung, 2 in the left, elsewhere 0, at points."""
        return self._at(self._labels, p, 0, "constant").astype(np.uint8)

    def scan(
        self, p: Points, squeeze: Floats, rng: np.random.Generator
    ) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """Image (HU) and labels at points; see ``Thorax``. Beyond the scan its border repeats.

        Only aerated tissue changes its density; vessels keep theirs.
        """
        image = self._at(self._calm, p, 3, "nearest")
        inside = self._at(self._air, p, 1, "nearest")
        aerated = inside * (1 - smoothstep(image, -700, -300))
        image = image + aerated * (squeeze - 1) * (image + 1000)
        sigma = rng.uniform(*NOISE_HU)
        image = image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
        hu = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
        return hu, self.lungs_at(p)

    def _index(self, p: Points) -> list[Floats]:
        """Voxel indices of points, in array order."""
        matrix = self.grid.world_to_index
        shift = matrix[:3, :3] @ np.asarray(self.middle) + matrix[:3, 3]
        return [
            np.asarray(
                sum(np.float32(matrix[i, j]) * p[j] for j in range(3)) + np.float32(shift[i])
            )
            for i in (2, 1, 0)
        ]

    def _at(self, image: NDArray[Any], p: Points, order: int, mode: str) -> Floats:
        from scipy import ndimage

        x, y, z = np.broadcast_arrays(*p)
        return np.asarray(
            ndimage.map_coordinates(
                image, self._index((x, y, z)), order=order, mode=mode, prefilter=False
            ),
            np.float32,
        )


def read_thorax(path: str | Path) -> ScannedThorax:
    """Read a CT of the thorax, 3-D, in Hounsfield units. Raises InputError."""
    volume = read_image(path)
    if volume.ndim != 3 or min(volume.grid.shape) < 16:
        raise InputError(f"{path}: a CT volume of at least 16 slices is needed to breathe")
    return ScannedThorax(volume)


def find_lungs(values: NDArray[Any], grid: Grid, name: str = "image") -> NDArray[np.uint8]:
    """Both lungs in a CT (HU): 1 right, 2 left, array as ``values``.

    Air is below -400 HU; what touches the border in the transverse plane is outside the patient.
    Eroding by 6 mm, or more where that does not do, cuts the airways and where the lungs touch; the
    two largest parts grow back within the air, so that the trachea stays out. Holes of vessels are
    closed. Raises InputError where there are no two parts.
    """
    import SimpleITK as sitk

    from regtool.imaging.itk import sitk_image

    air = sitk_image((values < AIR_HU).astype(np.uint8), grid)
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(air))
    border = np.zeros(parts.shape, bool)
    for axis in _transverse(grid):
        ends = np.moveaxis(border, axis, 0)
        ends[0] = ends[-1] = True
    outside = np.unique(parts[border])
    inner = sitk_image(((parts > 0) & ~np.isin(parts, outside)).astype(np.uint8), grid)
    least, *deeper = ([max(1, round(mm / s)) for s in grid.spacing] for mm in DEPTHS_MM)
    for radius in (least, *deeper):
        if any(2 * r >= n for r, n in zip(radius, grid.size, strict=True)):
            continue  # nothing would be left, and a ball of absurd size take the memory
        eroded = sitk.BinaryErode(inner, radius, sitk.sitkBall, 0.0, 1.0, False)
        cores = sitk.RelabelComponent(sitk.ConnectedComponent(eroded))
        found = sitk.GetArrayViewFromImage(cores)
        sizes = np.bincount(found.ravel(), minlength=3)[1:3] * float(np.prod(grid.spacing)) / 1000
        if sizes.min() >= max(0.2 * sizes.max(), 50):
            break
    else:
        raise InputError(
            f"{name}: no two lungs found (air below {AIR_HU} HU inside the body); is this a CT of "
            "the thorax in Hounsfield units?"
        )
    matrix = grid.index_to_world
    side = [
        float((np.argwhere(found == k)[:, ::-1].mean(0) @ matrix[:3, :3].T + matrix[:3, 3])[0])
        for k in (1, 2)
    ]
    right, left = (1, 2) if side[0] < side[1] else (2, 1)  # the patient's left is +x
    labels = np.zeros(parts.shape, np.uint8)
    for value, core in ((1, right), (2, left)):
        grown = sitk.BinaryDilate(cores == core, [r + 1 for r in radius], sitk.sitkBall)
        closed = sitk.BinaryMorphologicalClosing(grown & inner, least, sitk.sitkBall, 1)
        labels[(sitk.GetArrayViewFromImage(closed) > 0) & (labels == 0)] = value
    return labels


def _transverse(grid: Grid) -> list[int]:
    """The two tensor axes that are least along the body."""
    along = np.abs(grid.direction_matrix[2])[::-1]
    return [axis for axis in range(3) if axis != int(along.argmax())]
