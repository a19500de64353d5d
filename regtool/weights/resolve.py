"""From what the user asked for to checked files: which weights, where from, with which hash."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

from regtool.errors import WeightsError
from regtool.paths import exists, expanded
from regtool.plain import plain
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import hub
from regtool.weights.fetch import Reach, by_hub, check_reach, from_hub
from regtool.weights.files import SCHEMA, read_config
from regtool.weights.places import Found, Source, at_path, in_directory, in_vain, local
from regtool.weights.resolved import ResolvedWeights, checked

log = logging.getLogger("regtool.weights")

UNTRAINED = "none"
"""What is given in the place of weights for a network as it is built."""


def resolve(
    method: Method,
    spec: str | None,
    ndim: int,
    *,
    offline: bool = False,
    patience: hub.Patience = hub.HURRIED,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
) -> ResolvedWeights:
    """Find and check the weights of ``method`` for images of ``ndim`` dimensions.

    ``spec``: None (the method's first weights of that dimension), ``none`` (untrained), a name of
    the method's, ``hub:org/repo@revision``, or a path to a folder or safetensors file. A name is
    looked up in REGTOOL_WEIGHTS_DIR, with the plugin, in the Hub cache at the pinned commit
    (without a request), on the Hub. ``offline`` forbids requests, as HF_HUB_OFFLINE does.
    Raises WeightsError (nothing found, damaged, made for something else), UsageError (a malformed
    ``hub:`` reference), PluginError (a description that pins no full commit).
    """
    if spec == UNTRAINED or (spec is None and not method.weights and method.recipe is None):
        return _untrained(method, ndim)
    reach = Reach(offline, patience, endpoint, cache_dir)
    if spec is not None and spec.startswith("hub:"):
        files, warnings = by_hub(spec, reach)
        commit = (files.hub, files.revision)
        pinned = next((r for r in method.weights if (r.hub, r.revision) == commit), None)
        return checked(method, pinned, files, ndim, warnings)
    if spec is None:
        _tell_choice(method, ndim)
    ref, found = _found(method, spec, ndim, reach)
    if found is None:
        assert ref is not None  # what has no reference is found or refused
        found = from_hub(ref, reach)
    if ref is not None and found.source != "directory" and (vain := in_vain()):
        _tell_once(vain.removeprefix("; "))
    return checked(method, ref, found, ndim)


@cache
def _tell_once(sentence: str) -> None:
    log.warning("%s", sentence)


def peek(
    method: Method,
    spec: str | None,
    ndim: int,
    *,
    offline: bool = False,
    cache_dir: Path | None = None,
) -> dict[str, Any] | None:
    """The config of the weights that ``resolve`` would take; None where it would fetch them first.

    No request is made, and the tensors are not looked at. Raises what ``resolve`` would raise, as
    far as that can be known without either.
    """
    if spec == UNTRAINED or (spec is None and not method.weights and method.recipe is None):
        return _untrained(method, ndim).config
    reach = Reach(offline, hub.HURRIED, None, cache_dir)
    if spec is not None and spec.startswith("hub:"):
        files = hub.cached(*hub.parse_hub(spec), cache_dir)
        return None if files is None else read_config(files.config, method, ndim)
    ref, found = _found(method, spec, ndim, reach)
    if found is not None:
        return read_config(found.config, method, ndim)
    assert ref is not None
    check_reach(ref, reach)
    return None


def is_path(method: Method, spec: str) -> bool:
    """Whether ``resolve`` takes ``spec`` for the path of files or a folder, and it is there."""
    named = spec == UNTRAINED or any(ref.name == spec for ref in method.weights)
    if named or spec.startswith("hub:") or in_directory(spec) is not None:
        return False
    return exists(expanded(spec))


def locate(
    method: Method, ref: WeightsRef, cache_dir: Path | None = None
) -> tuple[Source, Path] | None:
    """Where the files of named weights are on this machine, unchecked and without any request.

    Returns the source and the model file, or None.
    """
    found = local(method, ref, cache_dir)
    return None if found is None else (found.source, found.model)


def _default(method: Method, ndim: int) -> WeightsRef:
    able = [ref for ref in method.weights if ref.ndim == ndim]
    if able:
        return able[0]
    have = ", ".join(f"{ref.name} ({ref.ndim}-D)" for ref in method.weights)
    raise WeightsError(
        f"method '{method.name}' has no weights for {ndim}-D images"
        + (f" (only {have})" if have else "")
        + f"; train some with 'regtool train -m {method.name}' and give their folder with --weights"
    )


def _tell_choice(method: Method, ndim: int) -> None:
    """Weights for brains would answer a pair of lungs without a word."""
    able = [ref for ref in method.weights if ref.ndim == ndim]
    if len({(ref.anatomy, ref.modality) for ref in able}) > 1:
        first, *others = (f"{r.name} ({r.anatomy}, {r.modality})" for r in able)
        also = ", ".join(f"-w {other}" for other in others)
        log.info("%s, weights %s; also %s", method.name, first, also)


def _untrained(method: Method, ndim: int) -> ResolvedWeights:
    for name, preset in method.presets.items():
        if preset.get("ndim", ndim) == ndim:
            config = {
                "schema": SCHEMA, "method": method.name, "api": method.api, "name": None,
                "network": plain(preset.get("network", {})), "ndim": ndim, "preset": name,
                "preparation": plain(preset.get("preparation", {})),
            }  # fmt: skip
            return ResolvedWeights(method.name, None, "none", config)
    raise WeightsError(f"method '{method.name}' has no preset for {ndim}-D images")


def _found(
    method: Method, spec: str | None, ndim: int, reach: Reach
) -> tuple[WeightsRef | None, Found | None]:
    """Reference and files of a name, a path or the default; no files where they are not here."""
    named = (ref for ref in method.weights if ref.name == spec)
    ref = _default(method, ndim) if spec is None else next(named, None)
    if ref is None:
        return None, in_directory(str(spec)) or at_path(method, str(spec))
    if ref.ndim != ndim:
        raise WeightsError(
            f"weights '{ref.name}' are for {ref.ndim}-D images, these images are {ndim}-D"
        )
    return ref, local(method, ref, reach.cache_dir)
