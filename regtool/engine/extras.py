"""A method's further results as files: fields, images, and the frames of a trajectory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from regtool.imaging.animation import write_animation
from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.imaging.writing import Outputs
from regtool.plugins.exchange import Extra, Prediction
from regtool.prepare.pair import Prepared
from regtool.spatial.grid import Grid, Matrix

if TYPE_CHECKING:
    from regtool.engine.request import Inputs


@dataclass(frozen=True)
class Extras:
    """What a method gave beside its field, and what is needed to bring it to the fixed image.

    ``affine`` (homogeneous, LPS mm) is that of the whole registration: the moving image is read at
    ``affine(x + field(x))`` in every frame of a trajectory.
    """

    extras: dict[str, Extra]
    prepared: Prepared
    fixed: Volume
    moving: Volume
    affine: Matrix

    @classmethod
    def of(
        cls, prediction: Prediction, prepared: Prepared, inputs: Inputs, affine: Matrix
    ) -> Extras:
        """The extras of a prediction that can be written: not tables, nor coarser grids."""
        kept = {
            name: extra
            for name, extra in prediction.extras.items()
            if extra.kind != "table" and extra.level == 0
        }
        return cls(kept, prepared, inputs.fixed, inputs.moving, affine)

    def write(self, outputs: Outputs) -> None:
        """Write every extra into an open transaction.

        ``field`` becomes ``NAME.nii.gz`` like ``1Warp`` on the fixed grid; ``image`` and ``map``
        become ``NAME.nii.gz`` on the network's grid; ``trajectory`` becomes ``NAME.nii.gz``, the
        moving image along the way as a series on the fixed grid, ``NAME.gif``, the same as an
        animation, and ``NAME01Warp.nii.gz`` and so on, a field for each frame.
        Raises OutputError.
        """
        for name, extra in self.extras.items():
            if extra.kind == "trajectory":
                self._trajectory(outputs, name, extra.tensor)
            elif extra.kind == "field":
                field = self.prepared.world_field(extra.tensor)
                outputs.field(f"{name}.nii.gz", field, self.fixed.grid)
            else:
                outputs.image(f"{name}.nii.gz", self.image(extra.tensor), self.prepared.grid)

    def image(self, tensor: Tensor) -> NDArray[np.float32]:
        """The first channel of (B, C, *S) as an array on the network's grid, slices stacked."""
        first = tensor[:, 0].detach().float().cpu().numpy()
        return first if self.prepared.sliced else first[0]

    def frames(self, tensor: Tensor) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
        """Field (*S, ndim) in LPS mm and warped moving image on the fixed grid, frame by frame.

        ``tensor`` (B, N, ndim, *S): displacements in voxels of the network's grid.
        """
        grid: Grid = self.fixed.grid
        for number in range(tensor.shape[1]):
            field = self.prepared.world_field(tensor[:, number])
            yield field, resample(self.moving, grid, [(field, grid), self.affine])

    def _trajectory(self, outputs: Outputs, name: str, tensor: Tensor) -> None:
        series = []
        for number, (field, warped) in enumerate(self.frames(tensor), start=1):
            digits = f"{number:0{max(2, len(str(tensor.shape[1])))}d}"
            outputs.field(f"{name}{digits}Warp.nii.gz", field, self.fixed.grid)
            grey = warped.mean(-1) if self.moving.kind == "rgb" else warped
            series.append(np.asarray(grey, dtype=np.float32))
        stacked = np.stack(series)
        outputs.image(f"{name}.nii.gz", stacked, self.fixed.grid, kind="series")
        path: Path = outputs.file(f"{name}.gif")
        write_animation(path, stacked, tuple(reversed(self.fixed.grid.spacing)))
