"""A method with its weights, loaded once and ready for any number of pairs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regtool.engine.device import choose_device, choose_precision, computing
from regtool.errors import Interrupted, PluginError
from regtool.nn.convolution import hasten_convolutions
from regtool.plugins import discovery
from regtool.plugins.charge import charged
from regtool.plugins.description import Method
from regtool.plugins.exchange import Context, Extra, Pair, Prediction
from regtool.plugins.options import parse_options, split_setting
from regtool.prepare.pair import Prepared, as_preparation
from regtool.prepare.preparation import Preparation
from regtool.prepare.tiles import blended
from regtool.spatial.compose import compose_affine
from regtool.spatial.integrate import integrate
from regtool.weights import ResolvedWeights, resolve
from regtool.weights.network import build_network

log = logging.getLogger("regtool.engine")

SLICES_AT_ONCE = 32
"""Slices of a volume that go through a 2-D network together; bounds the memory."""

Report = Callable[[int, int], None]
Preview = Callable[[int, Prediction], bool]


@dataclass(frozen=True)
class Watch:
    """Who looks on while a method works: ``report`` moves a progress bar, ``show`` takes figures
    for a live panel, ``stop`` says whether the user wants the best there is so far, ``preview``
    sees intermediate results and ends the work by answering False."""

    report: Report | None = None
    show: Callable[[Mapping[str, float]], None] | None = None
    stop: Callable[[], bool] | None = None
    preview: Preview | None = None


@dataclass(frozen=True)
class Registrar:
    """A loaded method for images of one dimension."""

    method: Method
    distribution: str
    ndim: int
    module: nn.Module
    options: Any
    weights: ResolvedWeights
    preparation: Preparation
    device: torch.device
    precision: torch.dtype
    threads: int | None
    seed: int

    def predict(self, prepared: Prepared, watch: Watch | None = None) -> Prediction:
        """Run the method on a prepared pair; the answer has a displacement, on the CPU or device.

        Raises PluginError when the answer breaks the method contract, Interrupted when it was to
        stop before all slices had their turn.
        """
        pair = prepared.pair
        count = pair.fixed.image.shape[0]
        starts = range(0, count, SLICES_AT_ONCE)
        parts = []
        with computing(self.device, self.precision, self.threads):
            for start in starts:
                chunk = pair.part(slice(start, start + SLICES_AT_ONCE)).to(self.device)
                if prepared.tile is None:
                    answer = self._run(chunk, watch)
                else:
                    answer = self._run_tiles(chunk, prepared.tile, prepared.overlap)
                parts.append(_without_affine(answer) if prepared.sliced else answer)
                if watch and watch.stop and watch.stop() and start != starts[-1]:
                    raise Interrupted("stopped before all slices had their turn")
        return _joined(parts) if len(parts) > 1 else parts[0]

    def predict_pair(self, pair: Pair) -> Prediction:
        """The answer to whole images (B, C, *S), on the CPU or device, without any tiling."""
        with computing(self.device, self.precision, self.threads):
            return self._run(pair.to(self.device), None)

    def _run(self, pair: Pair, watch: Watch | None) -> Prediction:
        torch.manual_seed(self.seed)  # dropout and the like; the rest comes from the generator
        context = Context(
            generator=torch.Generator(self.device).manual_seed(self.seed), device=self.device
        )
        if watch is not None:
            context.report = watch.report or context.report
            context.show = watch.show or context.show
            context.stop_requested = watch.stop or context.stop_requested
            context.preview = watch.preview or context.preview
        with charged(f"method '{self.method.name}'"):
            answer = self.module(pair, self.options, context)
        return _checked(answer, pair, self.method.name)

    def _run_tiles(self, pair: Pair, tile: tuple[int, ...], overlap: float) -> Prediction:
        """Tile by tile; only the displacement (with the affine in it) can be blended."""

        def displacement(part: Pair) -> Tensor:
            answer = _without_affine(self._run(part, None)).displacement
            assert answer is not None  # _checked has seen to it
            return answer

        return Prediction(displacement=blended(pair, tile, overlap, displacement))


def load_registrar(
    name: str,
    ndim: int,
    *,
    weights: str | None = None,
    settings: Iterable[str] | Mapping[str, Any] = (),
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    seed: int = 0,
    offline: bool = False,
) -> Registrar:
    """Load method ``name`` for images of ``ndim`` dimensions.

    Raises UsageError (unknown method or option), PluginError, WeightsError, DeviceError.
    """
    method = discovery.load(name)
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    found = resolve(method, weights, ndim, offline=offline)
    for sentence in found.warnings:
        log.warning("%s", sentence)
    options = method_options(method, found.config, settings)
    torch.manual_seed(seed)
    module = build_network(method, found)
    if not isinstance(module, nn.Module):
        raise PluginError(f"method '{name}': its model is no torch.nn.Module")
    found.load_into(module)
    module = module.to(where).eval().requires_grad_(False)
    hasten_convolutions(module)
    entry = discovery.find(name)
    return Registrar(
        method, entry.owner, ndim, module, options, found, as_preparation(found.config),
        where, dtype, threads, seed,
    )  # fmt: skip


def weights_in_words(registrar: Registrar) -> str | None:
    """Method and weights, and what these were trained on; None for a method without weights."""
    found = registrar.weights
    if found.model is None:
        return None
    if not found.pinned:  # somebody's own, whatever they are called
        training = found.config.get("training")
        data = training.get("data") if isinstance(training, dict) else None
        trained = ", ".join(map(str, data)) if isinstance(data, list) else ""
        of_what = f" (trained on {trained})" if trained else ""
        return f"{registrar.method.name}, weights {found.folder}{of_what}"
    ref = next((ref for ref in registrar.method.weights if ref.name == found.name), None)
    kind = [getattr(ref, key, None) or found.config.get(key) for key in ("anatomy", "modality")]
    known = ", ".join(str(word) for word in kind if word not in (None, "", "any"))
    of_what = f" ({known})" if known else ""
    return f"{registrar.method.name}, weights {found.name}{of_what}"


def method_options(
    method: Method, config: Mapping[str, Any], settings: Iterable[str] | Mapping[str, Any]
) -> Any:
    """The method's options: its defaults, those stored with the weights, those of the user.

    Raises UsageError for an unknown option or a bad value.
    """
    options_class = discovery.resolve_import(method.options, f"options of method '{method.name}'")
    given = dict(settings) if isinstance(settings, Mapping) else dict(map(split_setting, settings))
    return parse_options(options_class, {**(config.get("options") or {}), **given}, method.name)


def _checked(answer: object, pair: Pair, name: str) -> Prediction:
    """The answer with its displacement, integrated from a velocity if need be."""
    if not isinstance(answer, Prediction):
        raise PluginError(f"method '{name}' returned {type(answer).__name__}, not a Prediction")
    if answer.displacement is None and answer.velocity is not None:
        answer.displacement = integrate(answer.velocity.float())
    shape = pair.fixed.image.shape
    if answer.displacement is None and answer.affine is not None:
        answer.displacement = pair.fixed.image.new_zeros(shape[0], len(shape) - 2, *shape[2:])
    wanted = (shape[0], len(shape) - 2, *shape[2:])
    u = answer.displacement
    if u is None or tuple(u.shape) != wanted:
        got = "none" if u is None else tuple(u.shape)
        raise PluginError(f"method '{name}' returned a displacement {got} where {wanted} is due")
    if not torch.isfinite(u).all():
        raise PluginError(f"method '{name}' returned a displacement that is not finite")
    answer.displacement = u.float()
    return answer


def _without_affine(answer: Prediction) -> Prediction:
    """Slices share one affine file, so an affine of each becomes part of its displacement."""
    if answer.affine is not None and answer.displacement is not None:
        answer.displacement = compose_affine(answer.affine.float(), answer.displacement)
        answer.affine = answer.inverse = None
    return answer


def _joined(parts: list[Prediction]) -> Prediction:
    def join(tensors: list[Tensor | None]) -> Tensor | None:
        present = [t for t in tensors if t is not None]
        return torch.cat(present) if len(present) == len(tensors) else None

    extras, warnings = _joined_extras(parts)
    return Prediction(
        displacement=join([p.displacement for p in parts]),
        velocity=join([p.velocity for p in parts]),
        inverse=join([p.inverse for p in parts]),
        extras=extras,
        notes={name: note for p in parts for name, note in p.notes.items()},
        warnings=list(dict.fromkeys([*(w for p in parts for w in p.warnings), *warnings])),
    )


def _joined_extras(parts: list[Prediction]) -> tuple[dict[str, Extra], list[str]]:
    """The extras that all parts have in one form, together, and a sentence about each other one.

    Tables and states, of which nobody knows which row is whose, are left out without a word.
    """
    extras, warnings = {}, []
    for key in dict.fromkeys(key for p in parts for key in p.extras):
        found = [p.extras[key] for p in parts if key in p.extras]
        if any(e.kind in ("table", "state") for e in found):
            continue
        forms = {(e.kind, e.level, tuple(e.tensor.shape[1:])) for e in found}
        if len(found) < len(parts) or len(forms) > 1:
            warnings.append(f"the extra '{key}' is left out: it differs from slices to slices")
            continue
        extras[key] = Extra(torch.cat([e.tensor for e in found]), found[0].kind, found[0].level)
    return extras, warnings
