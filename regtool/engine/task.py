"""One registration in phases: open, prepare, (the method), finish; a cohort overlaps them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as default
from functools import partial
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from regtool.engine import measure, topology
from regtool.engine.chain import read_chain
from regtool.engine.companions import companion_warnings
from regtool.engine.extras import Extras
from regtool.engine.preflight import check_method, check_needs
from regtool.engine.refine import refine
from regtool.engine.registrar import Registrar, load_registrar, weights_in_words
from regtool.engine.registration import Clock, Registration
from regtool.engine.remarks import (
    beyond,
    exchanged,
    got_worse,
    overlap_warning,
    unreadable_elsewhere,
)
from regtool.engine.request import (
    Inputs,
    Request,
    located,
    read_inputs,
    refuse_ignored,
    refuse_ignored_roi,
    slice_axis,
)
from regtool.engine.results import Plan, invert_field, inverted, write_results
from regtool.errors import GeometryError, PluginError, WorseError
from regtool.imaging.initial import check_overlap, initial_transform
from regtool.imaging.resample import resample
from regtool.imaging.transforms import Transform
from regtool.imaging.writing import Outputs
from regtool.plugins import discovery
from regtool.plugins.description import Method
from regtool.plugins.exchange import Prediction
from regtool.prepare.chain import chain_displacement
from regtool.prepare.pair import Prepared, prepare_pair
from regtool.spatial.grid import Matrix

Report = Callable[[str, int, int], None]

log = logging.getLogger("regtool.engine")


@dataclass
class Task:
    """A registration whose files are read and whose outputs are free."""

    request: Request
    inputs: Inputs
    slices: int | None
    plan: Plan
    outputs: Outputs | None
    clock: Clock
    label: str = ""
    warnings: list[str] = default(default_factory=list)

    @property
    def ndim(self) -> int:
        """Dimensions that the method has to have."""
        return self.inputs.fixed.ndim if self.slices is None else 2

    def warn(self, sentence: str) -> None:
        """Say it, and note it in the record."""
        self.warnings.append(sentence)
        log.warning("%s%s", self.label, sentence)


def open_task(
    request: Request,
    label: str = "",
    wall: bool = True,
    method: Method | None = None,
    stage: Callable[[str], None] | None = None,
    loaded: bool = True,
) -> Task:
    """Read and check everything that a request names; ``label`` goes before warnings.

    ``method`` is the description of the request's, where that is known already: to look for it
    opens a file of every installed package. ``stage`` hears of each part as it begins. A method
    that is not ``loaded`` yet is checked before the outputs: its weights and options.

    Raises the errors of ``regtool.errors``.
    """
    clock = Clock(wall, stage)
    description = method or discovery.load(request.method)
    request = located(request, description)
    with clock("read"):
        inputs = read_inputs(request)
    slices = slice_axis(inputs.fixed, description, request.slices)
    refuse_ignored(description, inputs)
    if not loaded:
        ndim = inputs.fixed.ndim if slices is None else 2
        check_method(request, description, ndim, inputs.fixed.ndim)
    plan = Plan(request, inputs)
    outputs = plan.open() if request.output is not None else None
    task = Task(request, inputs, slices, plan, outputs, clock, label)
    companions = companion_warnings(request, inputs)
    for sentence in [*inputs.warnings, *companions, *unreadable_elsewhere(request, inputs)]:
        task.warn(sentence)
    return task


def load(request: Request, ndim: int) -> Registrar:
    """The method of a request with its weights, which it names, for ``ndim``-D images."""
    registrar = load_registrar(
        request.method,
        ndim,
        weights=None if request.weights is None else str(request.weights),
        settings=request.settings,
        device=request.device,
        precision=request.precision,
        threads=request.threads,
        seed=request.seed,
        offline=request.offline,
    )
    kinds = {(r.anatomy, r.modality) for r in registrar.method.weights if r.ndim == ndim}
    line = weights_in_words(registrar)
    if line is not None and (request.weights is not None or len(kinds) < 2):
        log.info("%s", line)  # a choice among several kinds has named them already
    return registrar


def prepare(task: Task, registrar: Registrar) -> Prepared:
    """Align the images as asked, and bring them to the method's grid."""
    task.warnings += registrar.weights.warnings
    inputs = task.inputs
    refuse_ignored_roi(registrar.method, inputs, registrar.preparation)
    check_needs(inputs, registrar.options)
    with task.clock("initial"):
        initial = _initial(task.request, inputs, registrar)
    with task.clock("prepare"):
        prepared = prepare_pair(
            inputs.fixed,
            inputs.moving,
            registrar.preparation,
            slices=task.slices,
            initial=initial,
            fixed_mask=inputs.fixed_mask,
            moving_mask=inputs.moving_mask,
            fixed_labels=_if("labels", registrar, inputs.fixed_labels),
            moving_labels=_if("labels", registrar, inputs.moving_labels),
            fixed_points=_if("points", registrar, inputs.fixed_points),
            moving_points=_if("points", registrar, inputs.moving_points),
            roi=inputs.roi,
        )
        if "warm" in registrar.method.capabilities:
            prepared.pair.field = _given_field(registrar.options.warm, prepared)
    return prepared


def _given_field(spec: str | None, prepared: Prepared) -> Tensor | None:
    """The field of a file or record as the method would have answered it, (B, ndim, *S)."""
    if spec is None:
        return None
    chain = read_chain([spec])
    grids = [t[1].ndim if isinstance(t, tuple) else len(t) - 1 for t in chain.transforms]
    if any(ndim != prepared.grid.ndim for ndim in grids):
        raise GeometryError(f"{spec}: not a transform of {prepared.grid.ndim}-D images")
    u = chain_displacement(prepared.grid, [*chain.transforms, inverted(prepared.initial)])
    return prepared.unstack(u)


def finish(
    task: Task,
    registrar: Registrar,
    prepared: Prepared,
    prediction: Prediction,
    report: Report | None = None,
) -> Registration:
    """From a method's answer to the files: refine, repair, resample, measure, invert, write."""
    request, inputs, clock = task.request, task.inputs, task.clock
    for sentence in prediction.warnings:
        task.warn(sentence)
    with clock("field"):
        displacement = prediction.displacement
        assert displacement is not None  # the registrar has checked it
        field_mm = prepared.world_field(displacement)
        affine = prepared.world_affine(prediction)
    more: dict[str, Any] = {}
    if request.refine:
        with clock("refine"):
            steps = None if report is None else partial(report, "refine")
            better = refine(request, inputs, field_mm, affine, task.slices, steps)
            field_mm, more["refine"] = better.field, better.as_dict()
    if request.topology == "repair":
        with clock("topology"):
            field_mm, more["topology"] = topology.repair(inputs, field_mm, affine)
    with clock("resample"):
        chain: list[Transform] = [(field_mm, inputs.fixed.grid), affine]
        warped = resample(inputs.moving, inputs.fixed.grid, chain, default=request.fill)
        labels = None
        if inputs.moving_labels is not None:
            labels = resample(inputs.moving_labels, inputs.fixed.grid, chain, "nearest")
    if not task.label and (zeros := beyond(request, inputs, warped)):
        log.info("%s", zeros)
    with clock("measure"):
        numbers = _measure(request, inputs, chain, warped, labels) | more
    if "topology" in more:
        topology.compare(more["topology"], numbers.get("dice"))
    worse = got_worse(numbers["similarity"])
    if worse:
        if request.fail_if_worse:
            raise WorseError(f"{worse}; nothing was written (--fail-if-worse)")
        task.warn(worse)
    fallen = overlap_warning(inputs, numbers.get("dice"), labels)
    if fallen:
        task.warn(fallen + exchanged(inputs, chain, numbers.get("dice")))
    inverse = None
    if request.inverse:
        with clock("inverse"):
            near = None if prediction.inverse is None else prepared.world_field(prediction.inverse)
            inverse, numbers["inverse"] = invert_field(field_mm, inputs.fixed.grid, near)
    result = Registration(warped, field_mm, affine, inverse, labels, {})
    extras = Extras.of(prediction, prepared, inputs, affine, request.fill)
    record = task.plan.record(registrar, prepared, result, numbers, task.warnings)
    _note(record, prediction, registrar.method.name)
    record["seconds"] = {**clock.seconds, "total": clock.total()}
    result.record = record
    if task.outputs is not None:
        result.outputs = write_results(task.outputs, task.plan, result, inputs, extras, clock.total)
    return result


def _note(record: dict[str, Any], prediction: Prediction, method: str) -> None:
    """Add what the method says of its answer. Raises PluginError for a name that is taken."""
    taken = [name for name in prediction.notes if name in record]
    if taken:
        raise PluginError(f"method '{method}': its note '{taken[0]}' has the name of an entry")
    record.update(prediction.notes)


def _initial(request: Request, inputs: Inputs, registrar: Registrar) -> Matrix:
    kind = request.initial or registrar.preparation.initial
    matrix = initial_transform(
        kind,
        inputs.fixed,
        inputs.moving,
        inputs.fixed_mask,
        inputs.moving_mask,
        seed=request.seed,
    )
    check_overlap(inputs.fixed, inputs.moving, matrix)
    return matrix


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
    numbers: dict[str, Any] = {"similarity": measure.similarity(inputs, warped, request.fill)}
    if request.topology != "off":
        numbers["jacobian"] = measure.determinant(field_mm, grid, inputs.fixed_mask)
    numbers["dice"] = measure.overlap(inputs, labels)
    numbers["tre_mm"] = measure.landmarks(inputs, chain)
    return {key: value for key, value in numbers.items() if value is not None}
