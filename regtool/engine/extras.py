"""A method's further results as files: fields, images, frames of a trajectory, tables, states."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from regtool.errors import InputError
from regtool.imaging.animation import write_animation
from regtool.imaging.resample import resample
from regtool.imaging.transforms import Transform
from regtool.imaging.volume import Volume
from regtool.imaging.writing import Outputs
from regtool.paths import expanded
from regtool.plugins.exchange import Extra, Prediction
from regtool.prepare.pair import Prepared
from regtool.spatial.grid import Grid, Matrix
from regtool.spatial.resize import resize, resize_image

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
    fill: float

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        prepared: Prepared,
        inputs: Inputs,
        affine: Matrix,
        fill: float = 0.0,
    ) -> Extras:
        """The extras of a prediction that can be written, no nameless tables.

        Those of coarser grids come enlarged to the network's. ``fill``: as in ``Request``.
        """
        shape = tuple(prepared.pair.fixed.image.shape[2:])
        kept = {
            name: enlarged(extra, shape)
            for name, extra in prediction.extras.items()
            if extra.kind != "table" or extra.columns
        }
        return cls(kept, prepared, inputs.fixed, inputs.moving, affine, fill)

    def write(self, outputs: Outputs) -> None:
        """Write every extra into an open transaction.

        ``field`` becomes ``NAME.nii.gz`` like ``1Warp`` on the fixed grid; ``image`` and ``map``
        become ``NAME.nii.gz`` on the network's grid; ``trajectory`` becomes ``NAME.nii.gz``, the
        moving image along the way as a series on the fixed grid, ``NAME.gif``, the same as an
        animation, and ``NAME01Warp.nii.gz`` and so on, a field for each frame; ``table`` becomes
        ``NAME.csv``, ``state`` ``NAME.safetensors``.
        Raises OutputError.
        """
        for name, extra in self.extras.items():
            if extra.kind == "trajectory":
                self._trajectory(outputs, name, extra.tensor)
            elif extra.kind == "table":
                outputs.text(f"{name}.csv", as_csv(extra))
            elif extra.kind == "state":
                write_state(outputs.file(f"{name}.safetensors"), extra)
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
            chain: list[Transform] = [(field, grid), self.affine]
            yield field, resample(self.moving, grid, chain, default=self.fill)

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


def enlarged(extra: Extra, shape: tuple[int, ...]) -> Extra:
    """An extra of a coarser grid on the one of ``shape``; others as they are.

    Displacements keep their length in the world.
    """
    if not extra.level or extra.kind in ("table", "state"):
        return extra
    tensor = extra.tensor.float()
    if extra.kind == "trajectory":
        count = tensor.shape[1]
        tensor = resize(tensor.flatten(0, 1), shape).unflatten(0, (-1, count))
    else:
        tensor = (resize if extra.kind == "field" else resize_image)(tensor, shape)
    return Extra(tensor, extra.kind)


def as_csv(table: Extra) -> str:
    """A table (rows, columns) as text; a figure that is not finite leaves its cell empty."""
    lines = [",".join(table.columns)]
    for row in table.tensor.detach().double().cpu().tolist():
        lines.append(",".join(f"{v:.7g}" if math.isfinite(v) else "" for v in row))
    return "\n".join(lines) + "\n"


def write_state(path: Path, extra: Extra) -> None:
    """Write a state as a safetensors file with the tensor ``state`` and its facts as JSON."""
    from safetensors.torch import save

    tensor = extra.tensor.detach().cpu().contiguous()
    facts = json.dumps(dict(extra.facts), allow_nan=False)
    path.write_bytes(save({"state": tensor}, metadata={"facts": facts}))


def read_state(path: str | Path) -> tuple[Tensor, dict[str, Any]]:
    """The tensor and the facts of a state file. Raises InputError when it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(expanded(path), framework="pt") as file:
            return file.get_tensor("state"), json.loads((file.metadata() or {})["facts"])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a state to go on from ({error})") from error
