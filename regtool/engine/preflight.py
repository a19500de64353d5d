"""What is wrong with a request, found out before its method is loaded or its outputs looked at.

So a mistake on the command line is told before ``--overwrite`` is asked for, which would not help.
"""

from __future__ import annotations

from typing import Any

from regtool.engine.device import choose_device, choose_precision
from regtool.engine.external import require
from regtool.engine.registrar import method_options
from regtool.engine.request import Inputs, Request
from regtool.errors import UsageError
from regtool.imaging.initial import INITIAL_KINDS, check_initial, initial_file
from regtool.plugins.description import Method
from regtool.weights import peek


def check_request(request: Request, method: Method) -> None:
    """Check what needs no image: device, precision, the kind of ``initial``, the method's tools.

    Raises UsageError, DeviceError, InputError, PluginError.
    """
    check_device(request)
    if request.initial is not None:
        check_initial(request.initial)
    for module, distribution in method.tools.items():
        require(module.partition(".")[0], distribution, method.name)


def check_device(request: Request) -> str:
    """The device that would be used. Raises UsageError and DeviceError, also for the precision."""
    device = choose_device(request.device)
    choose_precision(request.precision, device)
    return str(device)


def check_method(request: Request, method: Method, ndim: int, world: int) -> None:
    """Check weights and options for ``ndim``-D images, as far as they are on this machine.

    ``world`` is the dimension of the files, which an initial transform has. Contents of weights are
    not looked at. Raises UsageError, WeightsError, InputError, GeometryError.
    """
    if request.initial and request.initial not in INITIAL_KINDS:
        initial_file(request.initial, world)
    spec = None if request.weights is None else str(request.weights)
    config = peek(method, spec, ndim, offline=request.offline)
    if config is not None:
        check_needs(request, method_options(method, config, request.settings))


def check_needs(given: Request | Inputs, options: Any) -> None:
    """Raise UsageError where options need labels, points or masks that are not ``given``."""
    needs = getattr(options, "required_inputs", dict)  # a stranger's may be any pydantic model
    for option, kind in needs().items():
        if getattr(given, f"fixed_{kind}") is None or getattr(given, f"moving_{kind}") is None:
            raise UsageError(
                f"option '{option}' ({getattr(options, option)}) needs --fixed-{kind} and "
                f"--moving-{kind}"
            )
