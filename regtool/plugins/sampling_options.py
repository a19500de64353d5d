"""Options of methods that sample a field: how, watched how, stopped when, steered where."""

from __future__ import annotations

from typing import Literal

from regtool.plugins.options import Field, Options

Where = int | Literal["mask"] | None


class SamplingOptions(Options):
    """What ``sample_field`` understands; a method's options may inherit these and change defaults.

    Levels are those of the method's schedule, from noise (its last) down to 0.
    """

    sampler: Literal["ddim", "ancestral"] = Field(
        "ddim", description="how noise is removed: in strides, or level by level with fresh noise"
    )
    steps: int | None = Field(
        None, ge=1, description="steps over the whole schedule; none: 50 with ddim, all otherwise"
    )
    eta: float = Field(
        0.0, ge=0, le=1, description="fresh noise in steps of ddim: 0 none, 1 as much as ancestral"
    )
    clamp: float | None = Field(
        6.0, gt=0, description="keep clean estimates within so many SD of the training's fields"
    )
    samples: int = Field(
        1, ge=1, le=1000, description="fields to sample: their mean, and their deviation (mm)"
    )
    previews: int = Field(
        0, ge=0, description="every so many steps, write field, warped image and scores; 0: never"
    )
    stop: Literal["none", "auto"] = Field(
        "none", description="auto: end where similarity or field no longer change, keep the best"
    )
    patience: int = Field(3, ge=1, description="previews in a row that change nothing, for auto")
    stop_at: int | None = Field(None, ge=0, description="end at this level and save the state")
    resume: str | None = Field(None, description="go on from a saved state (…State.safetensors)")
    warm: str | None = Field(
        None, description="begin with the field of this record or file, noised to warm_level"
    )
    warm_level: int = Field(500, ge=0, description="level to begin a warm start at")
    smoothness: float = Field(0.0, ge=0, description="scale of the pull towards smooth fields")
    direction: tuple[float, ...] | None = Field(
        None, description="pull displacements this way: x, y, z in the world (LPS)"
    )
    direction_scale: float = Field(3.0, ge=0, description="scale of that pull")
    direction_in: Where = Field(
        None, description="where: mask is --fixed-mask, a number a label of --fixed-labels"
    )
    organ: Where = Field(
        None, description="organ to match: a label of both label maps, or the images in the mask"
    )
    organ_scale: float = Field(10.0, ge=0, description="scale of that pull")
    guide_below: float = Field(
        0.75, gt=0, le=1, description="part of the schedule, from the clean end, that is steered"
    )
    guide_clip: float = Field(
        2.0, gt=0, description="longest pull at a voxel, in SD of the training's fields"
    )
    through_network: bool = Field(
        False, description="take the derivatives of pulls through the network (slow, more memory)"
    )
