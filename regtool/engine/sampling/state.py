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
        kept: dict[str, Any] = {name: facts[name] for name in _KEPT}
        saved = Saved(tensor.float(), int(facts["number"]), int(facts["begin"]))
        seed, known, schema = int(facts["seed"]), int(facts["levels"]), facts["schema"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a state of a sampling ({error})") from error
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


def _fingerprint(pair: Pair) -> str:
    """The images in few digits; rounding does not matter."""
    digest = hashlib.blake2b(digest_size=8)
    for image in (pair.fixed.image, pair.moving.image):
        digest.update((image * 100).round().to(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()
