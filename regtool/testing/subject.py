"""The method under test: its configurations, its networks and the pairs they are tried on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regtool.errors import WeightsError
from regtool.plugins import discovery
from regtool.plugins.description import Method
from regtool.plugins.exchange import Context, Pair, Prediction
from regtool.spatial.compose import affine_to_displacement, compose_affine
from regtool.spatial.integrate import integrate

if TYPE_CHECKING:
    from regtool.weights.resolved import ResolvedWeights

SHAPES = {2: (48, 64), 3: (16, 32, 48)}
"""Small sizes that differ by axis, so that swapped axes show, and that most networks can halve."""

LARGEST = 2**18
"""Voxels up to which the images of a check have the size that the preparation names."""


@dataclass
class Subject:
    """One method and how to try it; ``method`` is an installed method's name or a description."""

    given: str | Method
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    steps: int = 300
    sizes: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    """Parameters of the presets' networks that were built so far; large ones take seconds."""

    @property
    def name(self) -> str:
        return self.given if isinstance(self.given, str) else self.given.name

    @cached_property
    def method(self) -> Method:
        return discovery.load(self.given) if isinstance(self.given, str) else self.given

    @cached_property
    def presets(self) -> dict[str, dict[str, Any]]:
        """Every preset as the configuration that ``build`` and ``recipe`` receive.

        A preset without ``ndim`` counts once for each dimension of the method; a method without
        presets gets an empty one.
        """
        method = self.method
        made = {}
        for name, preset in (method.presets or {"default": {}}).items():
            own = preset.get("ndim")
            for ndim in method.ndim if own is None else (own,):
                key = name if own is not None or len(method.ndim) == 1 else f"{name} ({ndim}-D)"
                made[key] = {
                    "schema": 1, "method": method.name, "api": method.api, "network": {},
                    "preparation": {}, "training": {}, **preset, "ndim": ndim, "preset": name,
                }  # fmt: skip
        return made

    @cached_property
    def cases(self) -> list[dict[str, Any]]:
        """The configurations to run: the chosen preset, or the smallest of each dimension."""
        if self.preset is not None:
            chosen = [c for c in self.presets.values() if c["preset"] == self.preset]
            assert chosen, f"there is no preset '{self.preset}'; presets: {list(self.presets)}"
            return chosen
        smallest: dict[int, tuple[int, dict[str, Any]]] = {}
        for name, config in self.presets.items():
            size = self.sizes.get(name) or self.note_size(name, self.build(config))
            if config["ndim"] not in smallest or size < smallest[config["ndim"]][0]:
                smallest[config["ndim"]] = (size, config)
        return [config for _, config in smallest.values()]

    def note_size(self, name: str, module: nn.Module) -> int:
        """Keep and return the number of parameters of a preset's network."""
        self.sizes[name] = sum(p.numel() for p in module.parameters())
        return self.sizes[name]

    @cached_property
    def option_values(self) -> Any:
        """The method's options with defaults, but for those given to the subject."""
        return discovery.resolve_import(self.method.options, "options")(**self.options)

    def build(self, config: Mapping[str, Any], seed: int = 0) -> nn.Module:
        """Build the network in evaluation mode; the global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = discovery.resolve_import(self.method.model, "model")(config)
        assert isinstance(module, nn.Module), (
            f"{self.method.model} returned {type(module).__name__}, not a torch.nn.Module"
        )
        return module.eval()

    def trained(self, ndim: int) -> tuple[dict[str, Any], nn.Module] | None:
        """Configuration and network of the default weights, or None where there are none here."""
        found = default_weights(self.method, ndim)
        if found is None:
            return None
        module = self.build(found.config)
        found.load_into(module)
        return dict(found.config), module.eval()

    def shape(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """Size of the test images: the caller's, that of the preparation, or a small one."""
        ndim = config["ndim"]
        if ndim in self.shapes:
            return tuple(self.shapes[ndim])
        preparation = config["preparation"]
        multiple = preparation.get("multiple", 16)
        small = tuple(-(-n // multiple) * multiple for n in SHAPES[ndim])
        sizes = preparation.get("size") or (None,) * ndim
        own = tuple(size or n for size, n in zip(sizes, small, strict=True))
        return own if math.prod(own) <= LARGEST else small

    def register(self, module: nn.Module, pair: Pair, seed: int = 0) -> Prediction:
        """Register as core does: evaluation mode, no gradients, everything random seeded."""
        module.eval()
        with torch.no_grad():
            answer = module(pair, self.option_values, context(seed))
        assert isinstance(answer, Prediction), (
            f"the model returned {type(answer).__name__}, not a Prediction"
        )
        return answer


def default_weights(method: Method, ndim: int) -> ResolvedWeights | None:
    """The default weights if they are here; None for a method that has none at all, too."""
    from regtool.weights.resolve import resolve

    try:
        found = resolve(method, None, ndim, offline=True)
    except WeightsError:
        return None
    return None if found.model is None else found


def context(seed: int = 0, *, step: int = 0, optimiser: str = "main") -> Context:
    """A context on the CPU; with ``step`` counting, that of a training step."""
    device = torch.device("cpu")
    return Context(
        torch.Generator(device).manual_seed(seed), device, optimiser=optimiser, step=step
    )


def total_displacement(prediction: Prediction, shape: tuple[int, ...]) -> Tensor:
    """The whole transform of a prediction as one displacement (B, ndim, *shape) in voxels."""
    displacement = prediction.displacement
    if displacement is None and prediction.velocity is not None:
        displacement = integrate(prediction.velocity)
    if prediction.affine is None:
        assert displacement is not None, "the prediction is empty: no displacement, no affine"
        return displacement
    if displacement is None:
        return affine_to_displacement(prediction.affine, shape)
    return compose_affine(prediction.affine, displacement)
