"""VTN whole: an affine stem, deformable stems after it, one warp of the original by all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from regtool.api import Context, Extra, Pair, Prediction, UsageError
from regtool.api.nn import cropped, pad_to_multiple
from regtool.api.spatial import affine_to_displacement, compose, compose_affine, integrate, warp
from regtool.api.train import choice
from regtool_vtn.affine import AffineStem
from regtool_vtn.deformable import DeformableStem
from regtool_vtn.encoder import MULTIPLE
from regtool_vtn.options import VTNOptions
from regtool_vtn.start import he_start

STARTS = ("torch", "he")


@dataclass
class Cascaded:
    """What the stems have found: the moving image is read at ``A(x + u(x))``, padded grid, voxels.

    ``affine`` is A (B, n + 1, n + 1); ``displacement`` u (B, n, *S), all deformable stems composed,
    None before the first. ``fields`` are what the stems put out, displacements or velocities;
    ``moves`` the displacements they stand for, whose composition in this order is u.
    """

    affine: Tensor
    shape: tuple[int, ...]
    displacement: Tensor | None = None
    fields: list[Tensor] = field(default_factory=list)
    moves: list[Tensor] = field(default_factory=list)

    @property
    def total(self) -> Tensor:
        """The whole transform as one displacement (B, n, *S): ``A(x + u(x)) - x``."""
        if self.displacement is None:
            return affine_to_displacement(self.affine, self.shape)
        return compose_affine(self.affine, self.displacement)

    def after(self, stem_field: Tensor, move: Tensor) -> Cascaded:
        """With one more stem: ``u <- u(x + move) + move``; A stays outermost."""
        u = move if self.displacement is None else compose(self.displacement, move)
        fields, moves = [*self.fields, stem_field], [*self.moves, move]
        return Cascaded(self.affine, self.shape, u, fields, moves)

    def settled(self) -> Cascaded:
        """The same as a beginning for further stems: no gradients, no fields of its own."""
        u = None if self.displacement is None else self.displacement.detach()
        return Cascaded(self.affine.detach(), self.shape, u)


class VTN(nn.Module):
    """The cascade ADDD of Zhao et al. (ICCV 2019), low-resolution as in DiffuseReg (MICCAI 2024).

    Maps images from [0, 1] to [-1, 1] itself and pads them to multiples of 16. ``stems`` deformable
    stems follow the affine one. ``affine``: ``any``, a head for every size, or ``fixed``, the
    published one, for images of ``size`` only. ``integrate`` 0: a stem's field is a displacement,
    as published; N: a stationary velocity, integrated in N squarings. ``start``: ``torch``, first
    weights as released, or ``he``, which learn faster.
    """

    def __init__(
        self,
        ndim: int,
        widths: Sequence[int] = (16, 32, 64, 128),
        stems: int = 3,
        affine: str = "any",
        size: Sequence[int] | None = None,
        flow_init: float | None = 1e-5,
        integrate: int = 0,
        input_activation: bool = True,
        start: str = "torch",
    ) -> None:
        super().__init__()
        if stems < 1:
            raise UsageError(f"network.stems {stems}: give at least one deformable stem")
        choice({"start": start}, "start", STARTS, within="network")
        self.affine = AffineStem(ndim, widths, affine, size, input_activation)
        self.stems = nn.ModuleList(
            DeformableStem(ndim, widths, stems, flow_init, input_activation) for _ in range(stems)
        )
        self.squarings = integrate
        if start == "he":
            he_start(self.affine.encoder)
            for stem in self.stems:
                he_start(stem, but="flow")

    def look(
        self, moving: Tensor, fixed: Tensor, passes: int = 1, before: Cascaded | None = None
    ) -> Cascaded:
        """The stems one after the other on images (B, 1, *S) in [0, 1].

        Each sees the original moving image warped once by all before it. A further pass is the
        deformable stems again, as in a cascade that shares weights; ``before`` continues one.
        """
        moving, fixed = (pad_to_multiple(image, MULTIPLE)[0] for image in (moving, fixed))
        target, shape = 2 * fixed - 1, tuple(fixed.shape[2:])
        found = before or Cascaded(self.affine(target, 2 * moving - 1), shape)
        for stem in list(self.stems) * passes:
            warped = warp(moving, found.total, padding="zeros")
            stem_field = stem(target, 2 * warped - 1)
            found = found.after(stem_field, self._move(stem_field))
        return found

    def _move(self, stem_field: Tensor) -> Tensor:
        if not self.squarings:
            return stem_field
        with torch.autocast(stem_field.device.type, enabled=False):
            return integrate(stem_field, self.squarings)

    def forward(self, pair: Pair, options: VTNOptions, context: Context) -> Prediction:
        """Register a pair; nothing is drawn at random.

        The answer has both parts: ``moving(A(x + u(x)))`` is the network's own last warp. Extras:
        ``Stage1Warp`` and so on, the displacements of the deformable stems; chained from the last
        to the first and then the affine, they are the answer.
        """
        moving, fixed = pair.moving.image, pair.fixed.image
        shape = tuple(fixed.shape[2:])
        found = self.look(moving, fixed, options.passes)
        assert found.displacement is not None
        prediction = Prediction(cropped(found.displacement, shape), affine=found.affine)
        if options.stages:
            for number, move in enumerate(found.moves, start=1):
                prediction.extras[f"Stage{number}Warp"] = Extra(cropped(move, shape), "field")
        return prediction


def build(config: Mapping[str, Any]) -> VTN:
    """Build VTN from a preset or a weights folder's config.json."""
    return VTN(config["ndim"], **config["network"])
