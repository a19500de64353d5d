"""The network that a config.json describes, built with a bound on what it may claim."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from regtool.errors import RegtoolError, WeightsError
from regtool.plugins import discovery
from regtool.plugins.description import Method
from regtool.weights.files import CONFIG_FILE, read_header

if TYPE_CHECKING:
    from torch import nn

    from regtool.weights.resolved import ResolvedWeights

ROOM = 2**26
"""Values that a network may make beyond eight times those of its weights file."""
PARTS = 100_000
"""Tensors that it may make."""


def build_network(method: Method, weights: ResolvedWeights) -> nn.Module:
    """The network of the weights' configuration, with its initial values.

    A configuration from elsewhere may claim anything: its network may have tensors in number and
    size as the weights file makes plausible, and no more, before any is allocated. Raises
    WeightsError when the network cannot be built; what a preset's own network raises is left as
    it is.
    """
    build = discovery.resolve_import(method.model, f"model of method '{method.name}'")
    if weights.model is None:
        return build(weights.config)
    stored = sum(prod(info.shape) for info in read_header(weights.model).values())
    try:
        with _bounded(8 * stored + ROOM):
            return build(weights.config)
    except RegtoolError:
        raise
    except Exception as error:
        raise WeightsError(
            f"{weights.folder}: method '{method.name}' cannot build the network of this "
            f"{CONFIG_FILE} ({type(error).__name__}: {error})"
        ) from error


def _bounded(values: int) -> Any:
    """A context in which tensors of more than ``values`` values in all are refused."""
    import torch
    from torch.overrides import TorchFunctionMode

    by_size = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}
    ranges = {torch.arange, torch.linspace, torch.logspace, torch.eye}

    class Bounded(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.parts = values, PARTS

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            if func in by_size or func in ranges:
                self.left -= _claimed(args, dict(kwargs or {}), func in ranges)
                self.parts -= 1
                if self.left < 0 or self.parts < 0:
                    raise WeightsError(
                        f"a {CONFIG_FILE} that claims a network far larger than its weights"
                    )
            return func(*args, **(kwargs or {}))

    return Bounded()


def _claimed(args: tuple[Any, ...], kwargs: Mapping[str, Any], as_range: bool) -> int:
    """How many values a call that makes a tensor asks for."""
    shape = kwargs.get("size", args)
    if len(args) == 1 or (args and isinstance(args[0], (tuple, list))):
        shape = args[0]
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    numbers = [n for n in sizes if isinstance(n, int)]
    if as_range:  # arange(n), linspace(a, b, steps): at least one of these is the length
        return max((abs(n) for n in [*numbers, *_integers(kwargs)]), default=0)
    return abs(prod(numbers))


def _integers(kwargs: Mapping[str, Any]) -> list[int]:
    return [v for v in kwargs.values() if isinstance(v, int)]
