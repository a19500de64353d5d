"""What a registration would do, found out without computing or writing anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from regtool.engine.companions import companion_warnings
from regtool.engine.preflight import check_device, check_needs, check_request
from regtool.engine.register import plan_prefix
from regtool.engine.registrar import method_options
from regtool.engine.reports import check_report, check_report_words
from regtool.engine.request import (
    Inputs,
    Request,
    located,
    read_inputs,
    refuse_ignored,
    refuse_ignored_roi,
    slice_axis,
)
from regtool.engine.results import Plan
from regtool.errors import WeightsError
from regtool.imaging.initial import INITIAL_KINDS, check_overlap, initial_file, initial_transform
from regtool.plugins import discovery
from regtool.plugins.description import Method
from regtool.prepare.pair import as_preparation
from regtool.prepare.preparation import Preparation
from regtool.weights import locate, resolve


def dry_run(request: Request) -> dict[str, Any]:
    """Check a request as far as that goes without computing, writing or opening a connection.

    Raises what the registration itself would raise.
    """
    request = replace(request, output=request.output or plan_prefix(request))
    check_report_words(request)
    method = discovery.load(request.method)
    check_request(request, method)
    request = located(request, method)
    inputs = read_inputs(request)
    slices = slice_axis(inputs.fixed, method, request.slices)
    refuse_ignored(method, inputs)
    ndim = inputs.fixed.ndim if slices is None else 2
    ready = rehearse_method(method, request, ndim, inputs.fixed.ndim)
    check_needs(request, ready.options)
    _check_overlap(inputs, ready.facts["initial"], request.seed)
    plan = Plan(request, inputs)
    plan.open()
    check_report(request)
    if ready.preparation is not None:
        refuse_ignored_roi(method, inputs, ready.preparation)
    return {
        "method": request.method,
        "images": f"{ndim}-D" + ("" if slices is None else f", along {'zyx'[slices]}"),
        "fixed": {"path": inputs.fixed.name, "size": list(inputs.fixed.grid.size)},
        "moving": {"path": inputs.moving.name, "size": list(inputs.moving.grid.size)},
        **ready.facts,
        "outputs": [str(plan.path(name)) for name in plan.names()],
        "warnings": [*inputs.warnings, *companion_warnings(request, inputs)],
    }


@dataclass(frozen=True)
class Ready:
    """A method that could be loaded: what it would work with, and its preparation if it is here."""

    facts: dict[str, Any]
    preparation: Preparation | None
    options: Any


def _check_overlap(inputs: Inputs, initial: str | None, seed: int) -> None:
    """What a registration would say of the overlap, where no alignment has to be computed."""
    if initial in ("rigid", "affine"):
        return
    fixed, moving = inputs.fixed, inputs.moving
    masks = inputs.fixed_mask, inputs.moving_mask
    check_overlap(fixed, moving, initial_transform(initial or "none", fixed, moving, *masks, seed))


def rehearse_method(method: Method, request: Request, ndim: int, world: int) -> Ready:
    """Choose device and precision, find the weights and read the options, for ``ndim``-D images.

    ``world`` is the dimension of the files, which an initial transform has. Raises UsageError,
    DeviceError, WeightsError, InputError.
    """
    device = check_device(request)
    if request.initial and request.initial not in INITIAL_KINDS:
        initial_file(request.initial, world)
    spec = None if request.weights is None else str(request.weights)
    weights, config = _weights(method, spec, ndim)
    options = method_options(method, config, request.settings)
    preparation = as_preparation(config) if config else None
    initial = request.initial or (preparation.initial if preparation else None)
    facts = {
        "weights": weights,
        "options": options.model_dump(mode="json"),
        "initial": None if initial is None else str(initial),  # weights elsewhere do not tell
        "refine": request.refine,
        "topology": request.topology,
        "inverse": request.inverse,
        "device": device,
        "precision": request.precision,
        "seed": request.seed,
    }
    return Ready(facts, preparation, options)


def _weights(method: Method, spec: str | None, ndim: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Which weights would be used and where they are, and their config if they are here."""
    named = (ref for ref in method.weights if ref.ndim == ndim and spec in (None, ref.name))
    ref = next(named, None)
    if ref is not None and ref.hub is not None and locate(method, ref) is None:
        return {"name": ref.name, "source": "hub", "path": None}, {}
    try:
        found = resolve(method, spec, ndim, offline=True)
    except WeightsError:
        if spec is None or not spec.startswith("hub:"):
            raise
        return {"name": spec, "source": "hub", "path": None}, {}
    path = None if found.model is None else str(found.model)
    return {"name": found.name, "source": found.source, "path": path}, found.config
