"""Registration of one pair, from files (or Volumes) to files."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as default
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regtool.engine import measure, topology
from regtool.engine.device import limited_threads
from regtool.engine.refine import refine
from regtool.engine.registrar import Registrar, load_registrar
from regtool.engine.request import (
    Inputs,
    Request,
    Source,
    read_inputs,
    refuse_ignored,
    slice_axis,
)
from regtool.engine.results import Plan, invert_field, write_results
from regtool.errors import UsageError, WorseError
from regtool.imaging.initial import check_overlap, initial_transform
from regtool.imaging.resample import resample
from regtool.imaging.transforms import Transform
from regtool.plugins import discovery
from regtool.prepare.pair import Prepared, prepare_pair
from regtool.spatial.frames import to_world_field
from regtool.spatial.grid import Matrix

log = logging.getLogger("regtool.engine")

_NOISE = 3e-3
"""A loss of local NCC up to this is interpolation, not a failed registration."""

Report = Callable[[str, int, int], None]


@dataclass
class Registration:
    """The result of one registration; arrays are on the fixed grid.

    ``field`` (*S, ndim): LPS mm, components (x, y, z); ``affine``: homogeneous world matrix. The
    moving image is read at ``affine(x + field(x))``. ``inverse`` undoes ``field`` alone.
    ``outputs`` are the files written, by role; ``record`` is what the JSON record holds.
    """

    warped: NDArray[Any]
    field: NDArray[np.float32]
    affine: Matrix
    inverse: NDArray[np.float32] | None
    warped_labels: NDArray[Any] | None
    record: dict[str, Any]
    outputs: dict[str, Path] = default(default_factory=dict)


def register(
    fixed: Source, moving: Source, method: str = "voxelmorph", **options: Any
) -> Registration:
    """Register ``moving`` to ``fixed``; the Python form of ``regtool register``.

    ``options`` are the fields of ``Request``, among them ``output`` (a prefix; nothing is written
    without one), ``weights``, ``initial``, ``device``, ``settings={name: value}``.
    Raises the errors of ``regtool.errors``, as the command line does.
    """
    try:
        request = Request(fixed, moving, method, **options)
    except TypeError as error:
        raise UsageError(f"register(): {error}") from error
    return run(request)


def run(
    request: Request, registrar: Registrar | None = None, report: Report | None = None
) -> Registration:
    """Carry out a request, with a registrar that is already loaded if there is one."""
    with limited_threads(request.threads):
        return _run(request, registrar, report)


def _run(request: Request, registrar: Registrar | None, report: Report | None) -> Registration:
    started = time.perf_counter()
    clock = _Clock()
    description = discovery.load(request.method)
    with clock("read"):
        inputs = read_inputs(request)
    slices = slice_axis(inputs.fixed, description, request.slices)
    refuse_ignored(description, inputs)
    plan = Plan(request, inputs)
    outputs = plan.open() if request.output is not None else None
    warnings = [*inputs.warnings, *_unreadable_elsewhere(request, inputs)]
    for sentence in warnings:
        log.warning("%s", sentence)
    if registrar is None:
        with clock("load"):
            registrar = _load(request, inputs, slices)
            warnings += registrar.weights.warnings
    with clock("initial"):
        initial = _initial(request, inputs, registrar)
    with clock("prepare"):
        prepared = _prepare(inputs, registrar, slices, initial)
    with clock("network"):
        steps = None if report is None else partial(report, "register")
        prediction = registrar.predict(prepared, steps)
    with clock("field"):
        displacement = prediction.displacement
        assert displacement is not None  # the registrar has checked it
        field_mm = prepared.world_field(displacement)
        affine = prepared.world_affine(prediction)
    refined: dict[str, Any] | None = None
    if request.refine:
        with clock("refine"):
            steps = None if report is None else partial(report, "refine")
            better = refine(request, inputs, field_mm, affine, slices, steps)
            refined = better.as_dict()
            field_mm = better.field
    repaired: dict[str, Any] | None = None
    if request.topology == "repair":
        with clock("topology"):
            field_mm, repaired = topology.repair(inputs, field_mm, affine)
    with clock("resample"):
        chain: list[Transform] = [(field_mm, inputs.fixed.grid), affine]
        warped = resample(inputs.moving, inputs.fixed.grid, chain)
        labels = None
        if inputs.moving_labels is not None:
            labels = resample(inputs.moving_labels, inputs.fixed.grid, chain, "nearest")
    with clock("measure"):
        numbers = _measure(request, inputs, chain, warped, labels)
    if repaired is not None:
        topology.compare(repaired, numbers.get("dice"))
        numbers["topology"] = repaired
    if refined is not None:
        numbers["refine"] = refined
    worse = _got_worse(numbers["similarity"])
    if worse:
        warnings.append(worse)
        if request.fail_if_worse:
            raise WorseError(f"{worse}; nothing was written (--fail-if-worse)")
        log.warning("%s", worse)
    inverse = None
    if request.inverse:
        with clock("inverse"):
            near = None if prediction.inverse is None else prepared.world_field(prediction.inverse)
            inverse, numbers["inverse"] = invert_field(field_mm, inputs.fixed.grid, near)
    result = Registration(warped, field_mm, affine, inverse, labels, {})
    extras = _extras(prediction, prepared)
    record = plan.record(registrar, prepared, result, numbers, warnings)
    record["seconds"] = {**clock.seconds, "total": time.perf_counter() - started}
    result.record = record
    if outputs is not None:
        result.outputs = write_results(outputs, plan, result, inputs, extras, started)
    return result


def _unreadable_elsewhere(request: Request, inputs: Inputs) -> list[str]:
    """ITK takes a field of one slice for 2-D and puts it at z = 0, with the plane's normal along z.

    ANTs then finds every point outside the field and applies the affine alone, without a word.
    """
    grid = inputs.fixed.grid
    if request.output is None or request.composite or not inputs.fixed.is_one_slice:
        return []
    if abs(grid.origin[2]) <= 0.5 and abs(abs(grid.direction[8]) - 1) < 1e-6:
        return []
    return [
        f"{inputs.fixed.name}: ITK and ANTs place the field of a one-slice volume at z = 0 and "
        "would ignore this one; for them add --composite and use Composite.h5"
    ]


class _Clock:
    """Seconds spent in each part, for the record."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str):  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start


def _load(request: Request, inputs: Inputs, slices: int | None) -> Registrar:
    return load_registrar(
        request.method,
        inputs.fixed.ndim if slices is None else 2,
        weights=request.weights,
        settings=request.settings,
        device=request.device,
        precision=request.precision,
        threads=request.threads,
        seed=request.seed,
        offline=request.offline,
    )


def _initial(request: Request, inputs: Inputs, registrar: Registrar) -> Matrix:
    kind = request.initial or registrar.preparation.initial
    matrix = initial_transform(
        kind,
        inputs.fixed,
        inputs.moving,
        inputs.fixed_mask,
        inputs.moving_mask,
        seed=request.seed,
        threads=request.threads,
    )
    check_overlap(inputs.fixed, inputs.moving, matrix)
    return matrix


def _prepare(inputs: Inputs, registrar: Registrar, slices: int | None, initial: Matrix) -> Prepared:
    return prepare_pair(
        inputs.fixed,
        inputs.moving,
        registrar.preparation,
        slices=slices,
        initial=initial,
        fixed_mask=inputs.fixed_mask,
        moving_mask=inputs.moving_mask,
        fixed_labels=_if("labels", registrar, inputs.fixed_labels),
        moving_labels=_if("labels", registrar, inputs.moving_labels),
        fixed_points=_if("points", registrar, inputs.fixed_points),
        moving_points=_if("points", registrar, inputs.moving_points),
        roi=inputs.roi,
    )


def _if(capability: str, registrar: Registrar, value: Any) -> Any:
    return value if capability in registrar.method.capabilities else None


def _measure(
    request: Request,
    inputs: Inputs,
    chain: list[Transform],
    warped: NDArray[Any],
    labels: NDArray[Any] | None,
) -> dict[str, Any]:
    field_mm, grid = chain[0]
    numbers: dict[str, Any] = {"similarity": measure.similarity(inputs, warped)}
    if request.topology != "off":
        numbers["jacobian"] = measure.determinant(field_mm, grid, inputs.fixed_mask)
    numbers["dice"] = measure.overlap(inputs, labels)
    numbers["tre_mm"] = measure.landmarks(inputs, chain)
    return {key: value for key, value in numbers.items() if value is not None}


def _got_worse(similarity: dict[str, dict[str, float]]) -> str | None:
    local = similarity["local_ncc"]
    if local["after"] >= local["before"] - _NOISE:
        return None
    return (
        f"the similarity got worse: local NCC {local['before']:.3f} before, "
        f"{local['after']:.3f} after; look at the result before you use it"
    )


def _extras(prediction: Any, prepared: Prepared) -> dict[str, Any]:
    """A method's extras on the network's grid, ready to be written."""
    made: dict[str, Any] = {}
    for name, extra in prediction.extras.items():
        if extra.kind == "table" or extra.level != 0 or prepared.sliced:
            continue
        if extra.kind == "field":
            made[name] = ("field", to_world_field(extra.tensor[0].float().cpu(), prepared.grid,
                                                  prepared.fixed, prepared.taper))  # fmt: skip
        else:
            made[name] = ("image", extra.tensor[0, 0].float().cpu().numpy(), prepared.grid)
    return made


def plan_prefix(request: Request) -> str:
    """The prefix used when none is given: ``<moving>_to_<fixed>_`` in the current folder."""

    def stem(source: Source, word: str) -> str:
        if not isinstance(source, str | Path):
            return word
        name = Path(source).name
        for suffix in (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr"):
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
        return Path(source).stem

    return f"{stem(request.moving, 'moving')}_to_{stem(request.fixed, 'fixed')}_"
