"""Saved states of samplings: what to go on from, and with which settings it began."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from regtool.diffusion.sampling import Sampling, Saved
from regtool.engine.extras import read_state
from regtool.errors import InputError, UsageError
from regtool.plugins.exchange import Extra, Pair
from regtool.plugins.sampling_options import SamplingOptions

SCHEMA = 1
_KEPT = ("sampler", "steps", "eta", "clamp")


@dataclass(frozen=True)
class Resumed:
    """A state, the settings and the seed it was saved with, and what is odd about it."""

    saved: Saved
    settings: Sampling
    seed: int
    warnings: tuple[str, ...]


def settings_of(options: SamplingOptions) -> Sampling:
    """How the options want to sample."""
    return Sampling(**{name: getattr(options, name) for name in _KEPT})


def state_extra(saved: Saved, settings: Sampling, seed: int, levels: int, pair: Pair) -> Extra:
    """The state as an extra, with what going on needs to know."""
    facts = {
        "schema": SCHEMA,
        **{name: getattr(settings, name) for name in _KEPT},
        "levels": levels,
        "number": saved.number,
        "begin": saved.begin,
        "seed": seed,
        "pair": _fingerprint(pair),
    }
    return Extra(saved.state, "state", facts=facts)


def resume(
    path: str, options: SamplingOptions, shape: tuple[int, ...], levels: int, pair: Pair
) -> Resumed:
    """Read a state for a field of ``shape`` (B, C, *S) on a schedule of ``levels``.

    It goes on with the settings and the seed it began with. Raises InputError for a file that does
    not fit, UsageError where an option says otherwise than the state.
    """
    tensor, facts = read_state(path)
    try:
        # Somebody may have written anything there.
        checked = SamplingOptions(**{name: facts[name] for name in _KEPT})
        kept: dict[str, Any] = {name: getattr(checked, name) for name in _KEPT}
        names = ("number", "begin", "seed", "levels")
        number, begin, seed, known = (_whole(facts, name) for name in names)
        saved, schema = Saved(tensor.float(), number, begin), facts["schema"]
        if not number <= begin + 1 <= known:
            raise ValueError(f"step {number} from level {begin} of {known}")
        if not saved.state.isfinite().all():
            raise ValueError("values that are not finite")
    except (KeyError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a state of a sampling ({why})") from error
    if schema != SCHEMA or known != levels or tuple(tensor.shape) != shape:
        raise InputError(
            f"{path}: a state of shape {tuple(tensor.shape)} on {known} levels (schema {schema}); "
            f"this method and pair need {shape} on {levels}"
        )
    for name, value in kept.items():
        if name in options.model_fields_set and getattr(options, name) != value:
            raise UsageError(f"option '{name}': {path} was begun with {value}; leave it out")
    other = facts.get("pair") != _fingerprint(pair)
    sentence = f"{path}: saved for another pair of images, or for these prepared otherwise"
    return Resumed(saved, Sampling(**kept), seed, (sentence,) if other else ())


def _whole(facts: dict[str, Any], name: str) -> int:
    value = facts[name]
    if type(value) is not int or not 0 <= value < 2**64:
        raise ValueError(f"{name} is no whole number")
    return value


def _fingerprint(pair: Pair) -> str:
    """The images in few digits; rounding does not matter."""
    digest = hashlib.blake2b(digest_size=8)
    for image in (pair.fixed.image, pair.moving.image):
        digest.update((image * 100).round().to(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()
