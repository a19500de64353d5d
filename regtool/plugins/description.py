"""What a plugin says about its method: frozen plain data, importing nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

API_VERSION = 1
"""The version of the method contract this regtool understands (DESIGN: the method contract)."""

CAPABILITIES = frozenset(
    {
        "masks",  # uses Sample.mask
        "labels",  # uses Sample.labels at registration time
        "points",  # uses Sample.points at registration time
        "inverse",  # returns a true inverse field
        "samples",  # draws random samples: the seed matters
        "previews",  # calls Context.preview while it works
        "stoppable",  # asks Context.stop_requested, and then returns the best it has
        "warm",  # starts from Pair.field, which its option "warm" names a file of
        "batches",  # answers each element of a batch as it would alone
    }
)


@dataclass(frozen=True)
class Paper:
    """The paper a method implements."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class WeightsRef:
    """Pretrained weights that belong to a method.

    ``sha256`` is that of ``model.safetensors``. ``hub`` is ``org/repo`` and ``revision`` the full
    40-digit commit once somebody has published them; both stay None until then.
    """

    name: str
    ndim: int
    anatomy: str
    modality: str
    licence: str
    sha256: str
    hub: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Method:
    """The frozen description that ``regtool_method()`` returns.

    ``options`` names a pydantic model class, ``model`` a callable ``(config) -> nn.Module`` whose
    ``forward(pair, options, context)`` returns a ``Prediction``, and ``recipe`` a callable
    ``(preset) -> tuple[Stage, ...]``; all three as ``"package.module:attribute"``, imported
    only when needed. ``presets`` maps a preset's name to ``{"ndim", "network", "preparation",
    "training"}`` in plain data: what ``train`` starts from, and what a method without weights
    registers with. The first of ``weights`` that fits the image's dimension is the default.
    ``tools`` maps modules outside the plugin that the method runs to what pip installs for each;
    ``regtool plugins list`` tells which are missing, and pip's extra of the method's name brings
    them.
    """

    name: str
    summary: str
    paper: Paper | None
    licence: str
    ndim: tuple[int, ...]
    model: str
    options: str
    modality: tuple[str, ...] = ("any",)
    anatomy: tuple[str, ...] = ("any",)
    task: str = "deformable registration"
    capabilities: frozenset[str] = frozenset()
    weights: tuple[WeightsRef, ...] = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: str | None = None
    api: int = API_VERSION
    tools: Mapping[str, str] = field(default_factory=dict)


def native_preset(ndim: int, **preparation: Any) -> dict[str, Any]:
    """A preset without a network for a method that works on the fixed image's own grid.

    ``preparation``: more of it, such as ``intensity`` or ``initial``; JSON-like data.
    """
    free = (None,) * ndim
    return {
        "ndim": ndim,
        "network": {},
        "preparation": {"spacing": free, "size": free, "multiple": 1, **preparation},
    }


def instance_preset(ndim: int) -> dict[str, Any]:
    """The ``native_preset`` of instance optimisation, alone or after a method.

    The result does not depend on how a file stores its axes, nor on a few bright voxels.
    """
    intensity = [{"kind": "percentile", "low": 0.1, "high": 99.9}]
    return native_preset(ndim, orientation="LPS", intensity=intensity)
