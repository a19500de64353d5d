"""Losses for plugins, each a pure function that returns a scalar; imports torch."""

from __future__ import annotations

from regtool.losses.correlation import global_ncc
from regtool.losses.dice import one_hot, soft_dice, soft_dice_maps
from regtool.losses.fields import field_distance
from regtool.losses.jacobian_penalty import fold_penalty, volume_penalty
from regtool.losses.kl import velocity_kl
from regtool.losses.landmarks import landmark_distance, landmark_distances
from regtool.losses.mind import mind_ssc
from regtool.losses.mse import mse
from regtool.losses.ncc import local_ncc, local_ncc_map
from regtool.losses.reduce import masked_mean
from regtool.losses.smoothness import bending_energy, diffusion
from regtool.losses.ssim import ssim_loss, ssim_map

__all__ = [
    "bending_energy",
    "diffusion",
    "field_distance",
    "fold_penalty",
    "global_ncc",
    "landmark_distance",
    "landmark_distances",
    "local_ncc",
    "local_ncc_map",
    "masked_mean",
    "mind_ssc",
    "mse",
    "one_hot",
    "soft_dice",
    "soft_dice_maps",
    "ssim_loss",
    "ssim_map",
    "velocity_kl",
    "volume_penalty",
]
