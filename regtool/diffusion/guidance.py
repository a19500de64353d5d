"""Steering: energies that pull the clean estimate of every step their way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regtool.diffusion.energies import Energy, Smoothness
from regtool.diffusion.sampling import Step
from regtool.diffusion.scale import FieldScale
from regtool.spatial.relax import relaxed
from regtool.spatial.smooth import gaussian


@dataclass(frozen=True)
class Steering:
    """Energy guidance of a sampled field; ``energies`` by name.

    Given a state at abar, the clean field is uncertain by about ``1 - abar`` (in units of the
    field's own variance), so an energy E, weighted by its scale, moves the clean estimate by
    ``-(1 - abar) * scale * dE/dz``. In terms of the noise that is
    ``+ scale * sqrt(1 - abar) * dE/dstate`` (Dhariwal and Nichol, NeurIPS 2021, algorithm 2), with
    ``dz/dstate`` taken as ``sqrt(abar)``, what it is for a field of unit variance; the mean of an
    ancestral step moves by ``- scale * variance * dE/dstate``. With ``through_network`` the
    derivative goes through the denoiser instead, which costs a backward pass through it.

    ``Smoothness`` is quadratic, so its whole pull is taken in closed form (``relaxed``): any scale
    is stable, also in few steps. Other derivatives are smoothed by a Gaussian of ``width`` voxels,
    because neighbours are uncertain together, and cut at ``clip`` standard deviations a voxel.

    Nothing acts at levels from ``below`` on, where the clean estimate is not to be trusted.
    """

    energies: Mapping[str, Energy]
    field: FieldScale
    below: int = 1500
    clip: float = 2.0
    width: float = 2.0
    through_network: bool = False

    def active(self, t: int) -> bool:
        """Whether it acts at a level."""
        return t < self.below and any(e.scale for e in self.energies.values())

    def values(self, clean: Tensor) -> dict[str, Tensor]:
        """Every energy without its scale, (B,), of a normalised field (B, ndim, *S)."""
        with torch.no_grad():
            u = self.field.voxels(clean)
            return {name: energy.value(u) for name, energy in self.energies.items()}

    def __call__(self, step: Step) -> Tensor:
        """The clean estimate of a step where the energies want it."""
        room = 1 - step.level
        clean = step.clean.detach()
        pulls = [e for e in self.energies.values() if e.scale and not isinstance(e, Smoothness)]
        if pulls:
            clean = clean - room * self._pull(pulls, step)
        return self._relaxed(clean, room)

    def _pull(self, energies: list[Energy], step: Step) -> Tensor:
        """The derivative of the weighted energies, smoothed and cut."""
        with torch.enable_grad():
            clean = step.clean if self.through_network else step.clean.detach().requires_grad_()
            source = step.state if self.through_network else clean
            u = self.field.voxels(clean)
            total = torch.stack([e.scale * e.value(u).sum() for e in energies]).sum()
            (pull,) = torch.autograd.grad(total, source)
        if self.through_network:
            pull = pull / step.level**0.5
        if self.width:
            pull = gaussian(pull, [self.width if n > 1 else 0.0 for n in pull.shape[2:]])
        length = pull.norm(dim=1, keepdim=True)
        return pull * (self.clip / length.clamp(min=self.clip))

    def _relaxed(self, clean: Tensor, room: float) -> Tensor:
        for energy in self.energies.values():
            if isinstance(energy, Smoothness) and energy.scale:
                pitch = self.field.pitch or (1.0,) * clean.shape[1]
                weight = room * energy.scale * math.prod(pitch)
                rows = [
                    [weight * std**2 * w / p**2 for w, p in zip(row, pitch, strict=True)]
                    for std, row in zip(self.field.std, energy.weights(clean.shape[1]), strict=True)
                ]
                clean = relaxed(clean, rows)
        return clean
