"""The network of AD-RegNet: features of both images, fields from coarse to fine, one displacement.

Source: Iqbal, Siddiqui, Ul Haq and Razzak, "Attention-Driven Framework for Non-Rigid Medical Image
Registration", arXiv 2602.07088 (2026). There is no public code; docs/ad-regnet.md lists where the
paper is silent or contradicts itself, and what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from regtool.api import UsageError
from regtool.api.nn import cropped, pad_to_multiple
from regtool.api.spatial import integrate
from regtool_ad_regnet.attention import Seen
from regtool_ad_regnet.fusion import Answer, Drop, Level, enlarged
from regtool_ad_regnet.unet import UNet

Features = list[tuple[Tensor, Tensor]]
"""Of the fixed and the moving image, from the finest level to the coarsest."""

Watch = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True)
class Fields:
    """What the network finds, in voxels.

    ``displacement`` (B, 3, *S) on the images' grid. The rest is on the padded grid: ``levels``, the
    displacement Phi_l of each level from coarse to fine, (B, 3, *s) in voxels of its own grid, and
    ``answers``, all that each level said. Level k of n has voxels ``stem * 2 ** (n - 1 - k)`` wide.
    """

    displacement: Tensor
    levels: tuple[Tensor, ...]
    answers: tuple[Answer, ...]


class ADRegNet(nn.Module):
    """Images in [0, 1] to fields.

    ``widths``: channels of each level from fine to coarse. ``attention``, ``regional``,
    ``multiresolution``: the parts whose use the paper studies; without the last only the finest
    level has a field. ``heads``, ``window``, ``cap``, ``alpha``: ``CrossAttention``. ``patch``:
    side of a region in voxels of the image. ``fusion``: ``blend``, Phi_l = W phi_l + (1 - W) 2
    up(Phi), or ``compose``, Phi_l(x) = W phi_l(x) + 2 up(Phi)(x + W phi_l(x)). ``gate``: width of
    the network of W. ``checkpointing``: activations are computed again in the backward pass.

    Not in the paper: ``stem``, voxels of the image to one of the finest level, a side;
    ``compare``, width of convolutions that see both images' features side by side, 0 for none;
    ``correlate``, how many voxels around a place ``Matching`` looks, 0 for none;
    ``offsets``; ``guided``, moving features are read through the coarser field; ``soft_regions``;
    ``regions_gate`` false, M_l is 1 where no mask is given, whatever the regional map says;
    ``flow_init``, first spread of the heads' weights, None for PyTorch's; ``flow_scale``, what the
    finest head's answer is multiplied by, a quarter of it at each coarser level, None for 1 at all;
    ``integrate``, squarings of velocities, 0 for displacements; ``dropout`` of whole channels
    before the heads, in training.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        attention: bool = True,
        regional: bool = True,
        multiresolution: bool = True,
        heads: int = 4,
        window: int = 4,
        cap: int = 16_384,
        alpha: float = 0.5,
        patch: int = 24,
        fusion: str = "blend",
        gate: int = 32,
        checkpointing: bool = False,
        stem: int = 1,
        compare: int = 0,
        correlate: int = 0,
        offsets: bool = False,
        guided: bool = False,
        soft_regions: bool = False,
        regions_gate: bool = True,
        flow_init: float | None = None,
        flow_scale: float | None = None,
        integrate: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if fusion not in ("blend", "compose"):
            raise UsageError(f"network.fusion {fusion!r}: give blend or compose")
        if not 0 < alpha < 1:
            raise UsageError(f"network.alpha {alpha}: give a number between 0 and 1")
        if stem not in (1, 2, 4):
            raise UsageError(f"network.stem {stem}: give 1, 2 or 4")
        if guided and fusion != "compose":
            raise UsageError("network.guided: fields of a guided network need fusion=compose")
        if correlate and not compare:
            raise UsageError("network.correlate: its convolutions need network.compare")
        settings: dict[str, Any] = {
            "attention": attention,
            "regional": regional,
            "cross": {
                "heads": heads,
                "window": window,
                "cap": cap,
                "alpha": alpha,
                "offsets": offsets,
            },
            "fusion": fusion,
            "gate": gate,
            "compare": compare,
            "correlate": correlate,
            "guided": guided,
            "soft_regions": soft_regions,
            "regions_gate": regions_gate,
            "flow_init": flow_init,
            "integrate": integrate,
        }
        self.settings = settings
        self.unet = UNet(widths, stem, checkpointing)
        self.stem, self.widths = stem, tuple(widths)
        self.multiple = stem * 2 ** (len(widths) - 1)
        count = len(widths) if multiresolution else 1
        self.levels = nn.ModuleList(
            Level(
                widths[level],
                max(2, round(patch / (stem * 2**level))),
                level == count - 1,
                settings,
                1.0 if flow_scale is None else flow_scale / 4**level,
            )
            for level in range(count)
        )
        self.blends, self.squarings = fusion == "blend", integrate
        self.dropout, self.checkpointing = dropout, checkpointing

    def forward(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Fields:
        """Fields for images (B, 1, *S) in [0, 1] of any size.

        ``mask`` (B, 1, *S), on the fixed image, stands for M_l: where it is zero, no level but the
        coarsest has a say.
        """
        return self.synthesise(self.features(fixed, moving), tuple(fixed.shape[2:]), mask)

    def features(self, fixed: Tensor, moving: Tensor) -> Features:
        """Of every level that has a field, on the padded grid.

        With gradients both images go through the U-Net together, else one after the other.
        """
        f, m = (pad_to_multiple(image, self.multiple)[0] for image in (fixed, moving))
        if torch.is_grad_enabled():
            both = [x.chunk(2) for x in self.unet(torch.cat([f, m]))]
            return [(x[0], x[1]) for x in both[: len(self.levels)]]
        count = len(self.levels)
        return list(zip(self.unet(f)[:count], self.unet(m)[:count], strict=True))

    def synthesise(
        self,
        features: Features,
        shape: tuple[int, ...],
        mask: Tensor | None = None,
        drop: Drop | None = None,
        watch: Watch | None = None,
    ) -> Fields:
        """Fields from coarse to fine for images of size ``shape``.

        The list of features is emptied on the way. ``drop`` replaces the dropout of training;
        ``watch(number, fixed, moving)`` is shown the features that each level's attention sees.
        """
        if mask is not None:
            mask = pad_to_multiple(mask.float(), self.multiple)[0]
        if drop is None and self.training and self.dropout > 0:
            drop = self._drop
        answers: list[Answer] = []
        for number in reversed(range(len(self.levels))):
            f, m = features.pop()
            coarse = answers[-1].field if answers else None
            if watch is not None:
                watch(number, f, self.level(number).read(m, coarse))
            part = None if mask is None else functional.avg_pool3d(mask, self.stem * 2**number)
            answers.append(self._run(self.levels[number], f, m, coarse, part, drop))
        levels = tuple(self._moved(answer.field) for answer in answers)
        with torch.autocast(levels[-1].device.type, enabled=False):
            u = enlarged(levels[-1], self.stem)
        return Fields(cropped(u, shape), levels, tuple(answers))

    def looks(self, shape: tuple[int, ...]) -> dict[int, Seen]:
        """How cross-attention looks at each level, by its number, for images of size ``shape``."""
        padded = [-(-n // self.multiple) * self.multiple for n in shape]
        seen = {}
        for number in range(len(self.levels)):
            attention = self.level(number).attention
            if attention is not None:
                side = self.stem * 2**number
                seen[number] = attention.looks(tuple(n // side for n in padded))
        return seen

    @property
    def sides(self) -> tuple[int, ...]:
        """Width of a voxel of each level in voxels of the image, from coarse to fine."""
        return tuple(self.stem * 2**number for number in reversed(range(len(self.levels))))

    def level(self, number: int) -> Level:
        """The level of that number, 0 the finest."""
        found = self.levels[number]
        assert isinstance(found, Level)
        return found

    def _run(self, level: nn.Module, *parts: Any) -> Answer:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(level, *parts, use_reentrant=False)
        return level(*parts)

    def _drop(self, maps: Tensor) -> Tensor:
        return functional.dropout3d(maps, self.dropout, training=True)

    def _moved(self, field: Tensor) -> Tensor:
        """The displacement of a blended field that is a velocity."""
        if not self.blends or not self.squarings:
            return field
        with torch.autocast(field.device.type, enabled=False):
            return integrate(field, self.squarings)
