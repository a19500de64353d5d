"""DiffuseReg whole: the denoiser with the statistics of its fields, and registration by sampling.

Source: Zhuo and Shen, "DiffuseReg: Denoising Diffusion Model for Obtaining Deformation Fields in
Unsupervised Deformable Image Registration", MICCAI 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regtool.api import Context, Pair, Prediction
from regtool.api.diffusion import SR3, sample_field
from regtool.api.spatial import warp
from regtool.api.train import choice
from regtool_diffusereg.denoiser import Denoiser, Seen
from regtool_diffusereg.field import FieldGrid
from regtool_diffusereg.options import DiffuseRegOptions
from regtool_diffusereg.prior import SmoothPrior

SCHEDULE = SR3
PREDICTS = ("noise", "residual")


@dataclass(frozen=True)
class Estimate:
    """What the denoiser makes of a state: the noise in it and the clean field, (B, 3, *s) each."""

    noise: Tensor
    clean: Tensor


class DiffuseReg(nn.Module):
    """The denoiser, and mean and SD (voxels) of each component of the fields it was trained on.

    ``predicts``: the network's answer is the ``noise``, as published, or the ``residual``: how far
    the clean field lies from what a smooth prior guesses of it, in units of the SD that the prior
    expects (the preconditioning of Karras et al., NeurIPS 2022, with a filter for a factor). Its
    goal then has a variance of about 1 at every step, no error is amplified, and white noise is
    gone without learning. ``length``: that of the prior, in voxels of the field's grid.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        denoiser: Mapping[str, Any],
        predicts: Literal["noise", "residual"] = "noise",
        length: Sequence[float] = (1.0, 1.0, 1.0),
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        choice({"predicts": predicts}, "predicts", PREDICTS, within="network")
        self.denoiser = Denoiser(**denoiser)
        self.predicts, self.prior = predicts, SmoothPrior(tuple(float(n) for n in length))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).clamp(min=1e-3))
        self._statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        self.register_load_state_dict_post_hook(_read_again)

    def grid(self, shape: Sequence[int]) -> FieldGrid:
        """The field's grid and scale for images of size ``shape``."""
        d = self.denoiser
        if self._statistics is None:  # read once: on a GPU every step would wait for it
            mean, std = (tuple(float(v) for v in x) for x in (self.mean, self.std))
            self._statistics = mean, std
        return FieldGrid(*self._statistics, tuple(shape), d.multiple, d.scale)

    def see(self, pair: Pair) -> Seen:
        """Look at the images (B, 1, *S) of a pair."""
        grid = self.grid(pair.fixed.image.shape[2:])
        images = jointly_normalised(pair.moving.image, pair.fixed.image)
        return self.denoiser.see(*(grid.complete(x) for x in images))

    def estimate(self, state: Tensor, t: Tensor, seen: Seen, grid: FieldGrid) -> Estimate:
        """Noise and clean field for states (B, 3, *s) at steps ``t`` (B,) or (1,) int64.

        ``seen`` and ``grid`` are those of the pair.
        """
        level = SCHEDULE.levels_on(t.device)[t]
        guess = warped = None
        if self.denoiser.guess or self.predicts == "residual":
            guess = self.prior.guess(state, level)
        if self.denoiser.guess and guess is not None:
            with torch.no_grad():
                warped = warp(seen.moving, grid.everywhere(guess))
        answer = self.denoiser(state, t, seen, guess, warped)
        wide = [-1, *[1] * (state.dim() - 1)]
        signal, spread = (x.sqrt().float().reshape(wide) for x in (level, 1 - level))
        if guess is None or self.predicts == "noise":
            return Estimate(answer, (state - spread * answer) / signal)
        clean = guess + self.prior.spread(grid.size, level).reshape(wide) * answer
        return Estimate((state - signal * clean) / spread, clean)

    def forward(self, pair: Pair, options: DiffuseRegOptions, context: Context) -> Prediction:
        """Register a pair: sample a field as ``options`` ask (``regtool.api.diffusion``)."""
        shape = pair.fixed.image.shape
        grid, seen = self.grid(shape[2:]), self.see(pair)

        def denoiser(state: Tensor, t: Tensor) -> Tensor:
            return self.estimate(state, t, seen, grid).noise

        size = (shape[0], len(grid.size), *grid.size)
        return sample_field(denoiser, SCHEDULE, grid, size, pair, options, context)


def _read_again(module: nn.Module, keys: object) -> None:
    """The statistics may be others once a state is loaded."""
    assert isinstance(module, DiffuseReg)
    module._statistics = None


def jointly_normalised(moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 1, *S) with the mean 0 and the SD 1 of both together, element by element."""
    both = torch.stack([moving, fixed], 1).float()
    axes = tuple(range(1, both.dim()))
    mean = both.mean(axes, keepdim=True)
    std = both.std(axes, keepdim=True).clamp(min=1e-3)
    m, f = ((both - mean) / std).unbind(1)
    return m, f


def build(config: Mapping[str, Any]) -> DiffuseReg:
    """Build DiffuseReg from a preset or a weights folder's config.json.

    The fields' statistics are the network's own ``statistics``, or those of the training pairs
    (``config["fields"]``); those of weights come with them.
    """
    network = dict(config["network"])
    fixed = network.pop("statistics", None)
    return DiffuseReg(
        predicts=network.pop("predicts"),
        length=network.pop("length"),
        denoiser=network,
        **_both(fixed or config.get("fields")),
    )


def _both(statistics: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if statistics is None else {key: statistics[key] for key in ("mean", "std")}
