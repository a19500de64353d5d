"""From what the user asked for to checked files: which weights, where from, with which hash."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regtool.errors import WeightsError
from regtool.paths import exists, expanded
from regtool.plain import plain
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import hub
from regtool.weights.files import SCHEMA, file_sha256, read_config, read_header
from regtool.weights.places import (
    WEIGHTS_DIR_VARIABLE,
    Found,
    Source,
    at_path,
    in_directory,
    in_vain,
    local,
    weights_dir,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


log = logging.getLogger("regtool.weights")

UNTRAINED = "none"
"""What is given in the place of weights for a network as it is built."""


@dataclass(frozen=True)
class ResolvedWeights:
    """Weights that were found and checked.

    ``source`` says where from: ``none`` (an untrained network; no files), ``path`` (given by the
    user), ``directory`` (REGTOOL_WEIGHTS_DIR), ``shipped`` (with the plugin), ``cache`` or ``hub``.
    ``config`` is the parsed config.json, or for ``none`` the preset in the same form. ``pinned``
    tells whether ``sha256`` was compared with the method's description. ``warnings`` are for the
    user. ``revision`` is the full commit for files from the Hub.
    """

    method: str
    name: str | None
    source: Source
    config: dict[str, Any]
    model: Path | None = None
    hub: str | None = None
    revision: str | None = None
    sha256: str | None = None
    pinned: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Folder of the model file; None for an untrained network."""
        return None if self.model is None else self.model.parent

    def load(self) -> dict[str, Tensor] | None:
        """Tensors by name, half precision widened to float32; None for an untrained network."""
        from regtool.weights.state import load_state

        return None if self.model is None else load_state(self.model)

    def load_into(self, network: nn.Module) -> None:
        """Load strictly into ``network``; an untrained one keeps its initial values.

        Raises WeightsError naming the first differences in names and shapes.
        """
        from regtool.weights.state import load_into

        if self.model is not None:
            load_into(network, self.model)

    def record(self) -> dict[str, Any]:
        """What belongs into the record of a registration."""
        return {
            "name": self.name,
            "source": self.source,
            "path": None if self.model is None else str(self.model.absolute()),
            "hub": self.hub,
            "revision": self.revision,
            "sha256": self.sha256,
            "pinned": self.pinned,
        }


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
    reach = _Reach(offline, patience, endpoint, cache_dir)
    if spec is not None and spec.startswith("hub:"):
        return _by_hub(method, spec, ndim, reach)
    if spec is None:
        _tell_choice(method, ndim)
    ref, found = _found(method, spec, ndim, reach)
    if found is None:
        assert ref is not None  # what has no reference is found or refused
        found = _from_hub(ref, reach)
    if ref is not None and found.source != "directory" and (vain := in_vain()):
        _tell_once(vain.removeprefix("; "))
    return _checked(method, ref, found, ndim)


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
    reach = _Reach(offline, hub.HURRIED, None, cache_dir)
    if spec is not None and spec.startswith("hub:"):
        files = hub.cached(*hub.parse_hub(spec), cache_dir)
        return None if files is None else read_config(files.config, method, ndim)
    ref, found = _found(method, spec, ndim, reach)
    if found is not None:
        return read_config(found.config, method, ndim)
    assert ref is not None
    _check_reach(ref, reach)
    return None


def is_path(method: Method, spec: str) -> bool:
    """Whether ``resolve`` takes ``spec`` for the path of files or a folder, and it is there."""
    named = spec == UNTRAINED or any(ref.name == spec for ref in method.weights)
    if named or spec.startswith("hub:") or in_directory(spec) is not None:
        return False
    return exists(expanded(spec))


@dataclass(frozen=True)
class _Reach:
    offline: bool
    patience: hub.Patience
    endpoint: str | None
    cache_dir: Path | None


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
    for ref in able[:1]:
        return ref
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
    method: Method, spec: str | None, ndim: int, reach: _Reach
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


def _from_hub(ref: WeightsRef, reach: _Reach) -> Found:
    missing, help_ = _check_reach(ref, reach)
    files = _download(str(ref.hub), str(ref.revision), reach, missing, help_)
    return Found("hub", files.config, files.model, ref.hub, files.revision)


def _check_reach(ref: WeightsRef, reach: _Reach) -> tuple[str, str]:
    """What to say where weights cannot be fetched, and what to do; WeightsError if that is so."""
    missing = f"weights '{ref.name}' are not on this machine"
    if ref.hub is None or ref.revision is None:
        raise WeightsError(
            f"{missing} and not published on the Hub; put their folder into "
            f"{weights_dir()}, or give it with --weights PATH"
        )
    help_ = (
        f"on a machine with internet run 'regtool weights pull {ref.name} --to FOLDER', copy "
        f"FOLDER here and set {WEIGHTS_DIR_VARIABLE}=FOLDER"
    )
    _check_online(reach, missing, help_)
    return missing, help_


def _check_online(reach: _Reach, missing: str, help_: str) -> None:
    if reach.offline or hub.is_offline():
        raise WeightsError(f"{missing}, and requests are switched off (offline); {help_}")


def _download(
    repository: str, revision: str, reach: _Reach, missing: str, help_: str
) -> hub.HubFiles:
    _check_online(reach, missing, help_)
    try:
        return hub.download(
            repository, revision, patience=reach.patience, endpoint=reach.endpoint,
            cache_dir=reach.cache_dir,
        )  # fmt: skip
    except WeightsError as error:
        raise WeightsError(f"{missing}; {error}; {help_}") from error


def _by_hub(method: Method, spec: str, ndim: int, reach: _Reach) -> ResolvedWeights:
    repository, revision = hub.parse_hub(spec)
    pinned = bool(hub.FULL_COMMIT.fullmatch(revision))
    files = hub.cached(repository, revision, reach.cache_dir)
    online = not reach.offline and not hub.is_offline()
    if files is None or (online and not pinned):
        help_ = (
            f"on a machine with internet run 'regtool weights pull {spec} --to FOLDER', copy "
            "FOLDER here and give its subfolder with --weights"
        )
        try:
            files = _download(repository, revision, reach, f"{spec}: not on this machine", help_)
        except WeightsError:
            if files is None:
                raise
    source: Source = "hub" if files.fetched else "cache"
    found = Found(source, files.config, files.model, repository, files.revision)
    ref = next(
        (r for r in method.weights if (r.hub, r.revision) == (repository, files.revision)), None
    )
    warnings = () if pinned else (_unpinned(repository, revision, files),)
    return _checked(method, ref, found, ndim, warnings)


def _unpinned(repository: str, revision: str, files: hub.HubFiles) -> str:
    stale = "" if files.fetched else " (as cached; it may have moved since)"
    return (
        f"'{revision}' of {repository} is not pinned and can change; it is now {files.revision}"
        f"{stale}; write hub:{repository}@{files.revision} to keep these weights"
    )


def _checked(
    method: Method,
    ref: WeightsRef | None,
    found: Found,
    ndim: int,
    warnings: tuple[str, ...] = (),
) -> ResolvedWeights:
    config, folder = read_config(found.config, method, ndim), found.model.parent
    digest = file_sha256(found.model)
    pin = (ref.sha256 if ref is not None else "") or None
    wanted = pin
    if wanted is None and found.source in ("cache", "hub"):
        wanted = hub.stored_hash(found.model)
    if wanted is not None and digest != wanted.lower():
        raise WeightsError(_mismatch(ref, found, digest, wanted))
    read_header(found.model)
    return ResolvedWeights(
        method=method.name,
        name=ref.name if ref is not None else found.name or config.get("name") or folder.name,
        source=found.source,
        config=config,
        model=found.model,
        hub=found.hub,
        revision=found.revision,
        sha256=digest,
        pinned=pin is not None,
        warnings=warnings,
    )


def _mismatch(ref: WeightsRef | None, found: Found, digest: str, wanted: str) -> str:
    what = (
        f"{found.model}: not the expected weights (sha256 {digest[:12]}…, expected {wanted[:12]}…)"
    )
    spec = ref.name if ref is not None else f"hub:{found.hub}@{found.revision}"
    if found.source == "hub":
        return (
            f"{what}; damaged on the way, or other than pinned on the Hub: try "
            f"'regtool weights pull {spec}', and tell its authors if that fails too"
        )
    if found.source == "cache":
        return f"{what}; the download is damaged, replace it with 'regtool weights pull {spec}'"
    if found.source == "shipped":
        return (
            f"{what}; the installation is damaged, reinstall the plugin "
            "(in a source checkout: correct sha256 in its description)"
        )
    return (
        f"{what}; this folder in {WEIGHTS_DIR_VARIABLE} takes the place of the weights '{spec}' of "
        "the method: if it holds others, rename it (then -w NEWNAME) or remove it; if it is a "
        "copy of them, copy it again"
    )
