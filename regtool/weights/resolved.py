"""Weights that were found, checked against what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regtool.errors import WeightsError
from regtool.plugins.description import Method, WeightsRef
from regtool.weights import hub
from regtool.weights.files import file_sha256, read_config, read_header
from regtool.weights.places import WEIGHTS_DIR_VARIABLE, Found, Source

if TYPE_CHECKING:
    from torch import Tensor, nn


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


def checked(
    method: Method,
    ref: WeightsRef | None,
    found: Found,
    ndim: int,
    warnings: tuple[str, ...] = (),
) -> ResolvedWeights:
    """The weights of found files, their header, hash and config looked at; ``ref`` pins them.

    Raises WeightsError for files that are damaged, made for something else, or not those pinned.
    """
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
