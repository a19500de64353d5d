"""Weights by their name on this machine: find, fetch, copy and verify them."""

from __future__ import annotations

import difflib
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from regtool.errors import OutputError, PluginError, UsageError, WeightsError
from regtool.imaging.leftovers import make_temporary, sweep
from regtool.paths import exists, expanded, is_dir
from regtool.plugins import discovery
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import hub
from regtool.weights.files import (
    CARD_FILE,
    CONFIG_FILE,
    MODEL_FILE,
    file_sha256,
    read_config,
    read_header,
)
from regtool.weights.network import build_network
from regtool.weights.places import at_path, in_folder, in_vain, own_folders
from regtool.weights.resolve import locate, resolve
from regtool.weights.resolved import ResolvedWeights


@dataclass(frozen=True)
class Verdict:
    """Outcome of ``verify``: ``problem`` is None for sound weights, ``present`` tells absence."""

    name: str
    method: str
    present: bool
    source: str | None = None
    path: Path | None = None
    sha256: str | None = None
    pinned: bool = False
    problem: str | None = None


def find(name: str) -> tuple[Method, WeightsRef]:
    """Method and reference of the weights called ``name``; WeightsError if there are not one."""
    methods, failures = discovery.load_all()
    owners = [(method, ref) for method in methods for ref in method.weights if ref.name == name]
    if len(owners) == 1:
        return owners[0]
    if owners:
        both = " and ".join(method.name for method, _ in owners)
        raise WeightsError(f"weights '{name}' exist in {both}; give their folder instead")
    known = [*own(), *sorted(ref.name for method in methods for ref in method.weights)]
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(known)}"
    raise WeightsError(
        f"no installed method has weights '{name}'{in_vain()}"
        + (hint if known else "")
        + (f"; not loaded: {', '.join(f.name for f in failures)}" if failures else "")
    )


def own() -> dict[str, Path]:
    """The user's own weights in REGTOOL_WEIGHTS_DIR, which no method describes: name to folder."""
    folders = own_folders()
    methods = discovery.load_all()[0] if folders else []
    named = {ref.name for method in methods for ref in method.weights}
    return {folder.name: folder for folder in folders if folder.name not in named}


def local(name: str) -> ResolvedWeights:
    """Named weights on this machine, checked, without any request."""
    mine = own().get(name)
    if mine is not None:
        config = read_config(mine / CONFIG_FILE)
        return resolve(discovery.load(config["method"]), name, config["ndim"], offline=True)
    method, ref = find(name)
    return resolve(method, ref.name, ref.ndim, offline=True)


def pull(spec: str) -> ResolvedWeights:
    """Fetch named weights, or those of ``hub:org/repo@revision``, into the Hub cache.

    Does nothing for sound weights that are here already; a damaged download is replaced. Raises
    WeightsError or UsageError.
    """
    if spec.startswith("hub:"):
        return _pull_hub(spec)
    method, ref = find(spec)
    place = locate(method, ref)
    if place is not None and place[0] == "cache" and ref.hub and ref.revision:
        wanted = ref.sha256 or hub.stored_hash(place[1])
        if wanted and file_sha256(place[1]) != wanted.lower():
            _replace(ref.hub, ref.revision)
    return resolve(method, ref.name, ref.ndim, patience=hub.PATIENT)


def _replace(repository: str, revision: str) -> hub.HubFiles:
    if hub.is_offline():
        raise WeightsError(
            f"{repository}@{revision}: the cached download is damaged, and requests are switched "
            "off (offline); unset HF_HUB_OFFLINE to replace it"
        )
    return _fetch(repository, revision, force=True)


def _fetch(repository: str, revision: str, force: bool = False) -> hub.HubFiles:
    """``hub.download``, with what to do on a machine that has no internet."""
    try:
        return hub.download(repository, revision, patience=hub.PATIENT, force=force)
    except hub.UnreachableError as error:
        spec = f"hub:{repository}@{revision}"
        raise WeightsError(
            f"{spec}: {error}; try again, or on a machine with internet run 'regtool weights pull "
            f"{spec} --to FOLDER', copy FOLDER here and give its subfolder with --weights"
        ) from error


def _pull_hub(spec: str) -> ResolvedWeights:
    repository, revision = hub.parse_hub(spec)
    files = hub.cached(repository, revision)
    if files is None or not hub.FULL_COMMIT.fullmatch(revision):
        if hub.is_offline():
            raise WeightsError(f"{spec}: requests are switched off; unset HF_HUB_OFFLINE")
        files = _fetch(repository, revision)
    stored = hub.stored_hash(files.model)
    if stored and file_sha256(files.model) != stored:
        files = _replace(repository, files.revision)
    config = read_config(files.config)
    pinned = f"hub:{repository}@{files.revision}"
    return resolve(discovery.load(config["method"]), pinned, config["ndim"], offline=True)


_LONGEST = 200
"""Bytes in the name of a folder; file systems take 255, and a temporary one adds some."""


def copy_to(weights: ResolvedWeights, folder: Path) -> Path:
    """Copy weights into ``folder/<name>/``, the layout that REGTOOL_WEIGHTS_DIR reads.

    The folder appears complete or not at all. An existing one with the same content is kept;
    OutputError if it differs or cannot be written.
    """
    assert weights.model is not None
    name = weights.name or weights.method
    unfit = not name.isprintable() or len(name.encode()) > _LONGEST
    if unfit or Path(name).name != name or name in {".", ".."}:
        raise WeightsError(f"{weights.model}: the name '{name}' in its {CONFIG_FILE} is no name")
    target = folder / name
    sweep(folder)
    if target.exists():  # folders appear whole, so what exists can be judged
        if _same(target, weights):
            return target
        raise OutputError(f"{target}: exists with other content; remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            temporary = make_temporary(folder)
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            staged = temporary / name
            staged.mkdir()
            shutil.copyfile(weights.model, staged / MODEL_FILE)
            for extra in (CONFIG_FILE, CARD_FILE):
                if (weights.model.parent / extra).is_file():
                    shutil.copyfile(weights.model.parent / extra, staged / extra)
            staged.rename(target)
    except OSError as error:
        # another process may have put the same copy there first
        if not _same(target, weights):
            raise OutputError(f"{target}: cannot be written ({error.strerror})") from error
    return target


def _same(folder: Path, weights: ResolvedWeights) -> bool:
    model = folder / MODEL_FILE
    return model.is_file() and file_sha256(model) == weights.sha256


def verify(spec: str) -> Verdict:
    """Check weights of this name or at this path completely, with a strict load into the network.

    Never raises for bad weights: the verdict says what is wrong. WeightsError for an unknown name.
    """
    if spec.startswith("hub:"):
        raise UsageError(f"{spec}: pull it, then verify the folder that 'weights pull' prints")
    if os.sep in spec or exists(spec) or Path(spec).suffix == ".safetensors":
        return _verify_path(spec)
    if spec in own():
        return verify_own(spec)
    method, ref = find(spec)
    return verify_reference(method, ref)


def verify_own(name: str) -> Verdict:
    """The same for a folder in REGTOOL_WEIGHTS_DIR that no method describes, by its name."""
    try:
        weights = local(name)
        check_network(discovery.load(weights.method), weights)
    except (WeightsError, PluginError, UsageError) as error:
        return Verdict(name, "", present=True, problem=str(error))
    return _sound(weights)


def verify_reference(method: Method, ref: WeightsRef) -> Verdict:
    """The same for one set of weights of a method; absent ones are no failure here."""
    try:
        if locate(method, ref) is None:
            return Verdict(ref.name, method.name, present=False)
        weights = resolve(method, ref.name, ref.ndim, offline=True)
        check_network(method, weights)
    except (WeightsError, PluginError) as error:
        return Verdict(ref.name, method.name, present=True, problem=str(error))
    return _sound(weights)


def _verify_path(spec: str) -> Verdict:
    try:
        return _sound(read_folder(spec))
    except (WeightsError, PluginError, UsageError) as error:
        return Verdict(spec, "", present=True, problem=str(error))


def read_folder(spec: str) -> ResolvedWeights:
    """Weights at a path, checked up to a strict load into the network of the method they name."""
    folder = expanded(spec)
    if not exists(folder):
        raise WeightsError(f"{spec}: no such file or folder")
    if is_dir(folder) and not exists(folder / CONFIG_FILE):
        folder = in_folder(folder, "path").model.parent  # of a training run
    config_path = folder / CONFIG_FILE if is_dir(folder) else folder.with_name(CONFIG_FILE)
    config = read_config(config_path)
    method = discovery.load(config["method"])
    read_header(at_path(method, str(folder)).model)
    weights = resolve(method, str(folder.absolute()), config["ndim"], offline=True)
    check_network(method, weights)
    return weights


def check_network(method: Method, weights: ResolvedWeights) -> None:
    """Build the network of the weights' configuration and load them strictly."""
    weights.load_into(build_network(method, weights))


def _sound(weights: ResolvedWeights) -> Verdict:
    return Verdict(
        weights.name or "",
        weights.method,
        present=True,
        source=weights.source,
        path=weights.folder,
        sha256=weights.sha256,
        pinned=weights.pinned,
    )
