"""The registration decoder: a second way up beside the diffusion model's, watching it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regtool.api.nn import (
    ResidualBlock,
    Scored,
    ScoreNetwork,
    convolution,
    double,
    orthogonal,
)
from regtool_fsdiffreg.heads import Heads


@dataclass
class Fields:
    """The fields before they are put together, float32.

    ``coarse``: one for each block of the way up, on that block's grid; ``full``: the one that the
    predicted noise takes part in (B, ndim, *S).
    """

    coarse: list[Tensor]
    full: Tensor


class RegistrationDecoder(nn.Module):
    """The way up of ``score`` once more, from the same deepest features to fields.

    Each block sees its own stream, the encoder's skip and what the diffusion decoder has just made
    at the same place. ``guided`` off takes away all of the diffusion decoder's features: from the
    blocks and from the heads. ``flow_init``: the standard deviation of the first weights of each
    field's last layer; None leaves them orthogonal, as released.
    """

    def __init__(
        self,
        ndim: int,
        score: ScoreNetwork,
        guided: bool = True,
        flow_init: float | None = None,
    ) -> None:
        super().__init__()
        self.plan, self.guided = score.plan, guided
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for block in self.plan:
            inputs = block.stream + block.skip + (block.outputs if guided else 0)
            self.up.append(ResidualBlock(ndim, inputs, block.outputs, score.width, score.groups))
            if block.grows:
                self.larger.append(convolution(ndim, block.outputs, block.outputs))
        widths = [block.outputs for block in self.plan]
        self.heads = Heads(ndim, widths, score.groups, guided)
        orthogonal(self)
        if flow_init is not None:
            for layer in self.heads.last_layers:
                nn.init.normal_(layer.weight, 0.0, flow_init)

    def forward(self, scored: Scored) -> Fields:
        """The fields of what the diffusion model saw and predicted."""
        x, coarse, larger = scored.middle, [], iter(self.larger)
        ways = zip(self.up, scored.skips, scored.up, self.heads.guided, self.plan, strict=True)
        for block, skip, feature, head, plan in ways:
            seen = [x, skip, feature] if self.guided else [x, skip]
            x = block(torch.cat(seen, 1), scored.time)
            coarse.append(head(x, feature))
            if plan.grows:
                x = next(larger)(double(x))
        return Fields(coarse, self.heads.full(x, scored.noise))

    def mean(self, fields: Fields) -> Tensor:
        """The mean of all fields at full resolution, (B, ndim, *S)."""
        return self.heads.mean(fields.coarse, fields.full)

    def each(self, fields: Fields) -> list[Tensor]:
        """All fields at full resolution, from the coarsest block to the last."""
        return self.heads.each(fields.coarse, fields.full)
