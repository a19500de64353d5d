"""The output files of a registration: their names, their record, their writing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from regtool.engine.request import Inputs, Request
from regtool.errors import GeometryError, InputError
from regtool.imaging.destination import checked_prefix
from regtool.imaging.resample import resample
from regtool.imaging.transforms import Transform
from regtool.imaging.writing import Outputs
from regtool.paths import is_file
from regtool.prepare.pair import Prepared
from regtool.record import (
    AFFINE,
    COMPOSITE,
    FIELD,
    INVERSE,
    INVERSE_WARPED,
    LABELS,
    MAPS,
    SCHEMA,
    SUFFIX,
    WARPED,
    describe_image,
    read_record,
    software,
)
from regtool.spatial.frames import to_network_displacement, to_world_field
from regtool.spatial.grid import Grid, Matrix
from regtool.spatial.invert import invert

if TYPE_CHECKING:
    from regtool.engine.extras import Extras
    from regtool.engine.registrar import Registrar
    from regtool.engine.registration import Registration

ON_REQUEST = (INVERSE, INVERSE_WARPED, LABELS, COMPOSITE)


def _is_plain(name: str) -> bool:
    """Whether a name that some record lists is that of a file beside it, not of one elsewhere."""
    return Path(name).name == name and "\0" not in name


@dataclass(frozen=True)
class Plan:
    """Which files a request will write, and what their record says about the request."""

    request: Request
    inputs: Inputs

    def names(self) -> list[str]:
        """Roles of the files, which are also their names after the prefix; the record is last."""
        wanted = {
            INVERSE: self.request.inverse,
            INVERSE_WARPED: self.request.inverse,
            LABELS: self.inputs.moving_labels is not None,
            COMPOSITE: self.request.composite,
        }
        return [WARPED, FIELD, AFFINE, *(name for name, on in wanted.items() if on), SUFFIX]

    def path(self, name: str) -> Path:
        """Where a file of this plan goes."""
        return Path(checked_prefix(self.request.output or "") + name)

    def open(self) -> Outputs:
        """The transaction for the files; checks the destination before anything is computed."""
        return Outputs(
            self.request.output or "",
            [name for name in self.names() if name != SUFFIX],
            inputs=self.request.paths(),
            optional=(*ON_REQUEST, *self._left_over()),
            overwrite=self.request.overwrite,
            record=SUFFIX,
        )

    def _left_over(self) -> list[str]:
        """Extras that the record of an earlier run with this prefix lists."""
        try:
            outputs = read_record(self.path(SUFFIX)).get("outputs", {})
        except InputError:
            return []
        names = outputs if isinstance(outputs, dict) else {}
        return [name for name in names if _is_plain(name) and is_file(self.path(name))]

    def record(
        self,
        registrar: Registrar,
        prepared: Prepared,
        result: Registration,
        numbers: dict[str, Any],
        warnings: list[str],
    ) -> dict[str, Any]:
        """The record without the outputs, which are added as they are written."""
        request, inputs = self.request, self.inputs
        return {
            "schema": SCHEMA,
            "kind": "registration",
            "software": software(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": list(request.command),
            "request": request.asked(),
            "method": {"name": registrar.method.name, "distribution": registrar.distribution},
            "weights": registrar.weights.record(),
            "options": registrar.options.model_dump(mode="json"),
            "device": str(registrar.device),
            "precision": str(registrar.precision).removeprefix("torch."),
            "seed": request.seed,
            "slices": request.slices,
            "initial": str(request.initial or registrar.preparation.initial),
            "fixed": describe_image(inputs.fixed),
            "moving": describe_image(inputs.moving),
            "companions": {
                name: str(getattr(request, name))
                for name in ("fixed_mask", "moving_mask", "fixed_labels", "moving_labels",
                             "fixed_points", "moving_points", "roi")
                if isinstance(getattr(request, name), str | Path)
            },
            "network_grid": {
                "size": list(prepared.grid.size),
                "spacing": list(prepared.grid.spacing),
            },
            "affine": np.round(result.affine, 9).tolist(),
            "affine_is_identity": bool(np.allclose(result.affine, np.eye(len(result.affine)))),
            "field": {"units": "mm", "frame": "LPS", "maps": MAPS,
                      "chain": "moving is read at affine(x + field(x))"},
            **numbers,
            "warnings": warnings,
        }  # fmt: skip


def write_results(
    outputs: Outputs,
    plan: Plan,
    result: Registration,
    inputs: Inputs,
    extras: Extras,
    seconds: Callable[[], float],
) -> dict[str, Path]:
    """Write all files of a plan and the extras, the record last; return their paths by role.

    ``seconds`` tells how long it has taken until the record is written.
    """
    fixed, grid = inputs.fixed, inputs.fixed.grid
    with outputs:
        outputs.image(WARPED, result.warped, like=fixed)
        outputs.field(FIELD, result.field, grid)
        outputs.affine(AFFINE, result.affine)
        if result.inverse is not None:
            outputs.field(INVERSE, result.inverse, grid)
            chain: list[Transform] = [inverted(result.affine), (result.inverse, grid)]
            back = resample(fixed, inputs.moving.grid, chain, default=plan.request.fill)
            outputs.image(INVERSE_WARPED, back, like=inputs.moving)
        if result.warped_labels is not None:
            outputs.image(LABELS, result.warped_labels, like=fixed)
        if plan.request.composite:
            outputs.composite(COMPOSITE, result.affine, result.field, grid)
        extras.write(outputs)
        paths = {name: plan.path(name) for name in outputs.written}
        digests = outputs.digests()
        result.record["outputs"] = {
            name: {"file": path.name, "sha256": digests[name]} for name, path in paths.items()
        }
        result.record["seconds"]["total"] = seconds()
        outputs.record(result.record)
    return {**paths, SUFFIX: plan.path(SUFFIX)}


def inverted(matrix: Matrix) -> Matrix:
    """The inverse of a homogeneous matrix. Raises GeometryError when it has none."""
    try:
        return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise GeometryError("an affine transform that cannot be inverted (singular)") from None


def invert_field(
    field: NDArray[np.float32], grid: Grid, near: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """The inverse of a field on its own grid, ANTs semantics, and how exact it is.

    All fields are (*S, ndim) in LPS mm; ``near`` is an inverse that may be a little off. The
    residual is in voxels of the grid.
    """
    u = to_network_displacement(field, grid, grid)
    start = None if near is None else to_network_displacement(near, grid, grid)[None]
    inverse, residual = invert(u[None].double() if u.numel() < 1 << 24 else u[None], start=start)
    return to_world_field(inverse[0].to(torch.float32), grid, grid), {
        "residual_voxels_max": float(residual)
    }
