"""Instance optimisation as a teacher: what a network in training is drawn towards, no labels."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import LENGTHS, Optimisation
from regtool.losses.fields import field_distance
from regtool.plugins.exchange import Context, Pair, Sample

TEACHER = Optimisation(iterations=(60, 60, 15), tolerance=0.03)
"""Instance optimisation as it is cheap enough for every batch; its lengths are ``LENGTHS``."""


def taught(pair: Pair, context: Context) -> Tensor:
    """The displacement (B, ndim, *S) in voxels that the teacher finds for a batch's images."""
    fixed, moving = (Sample(s.compared, s.spacing) for s in (pair.fixed, pair.moving))
    images = Pair(fixed, moving)
    settings = replace(TEACHER, **LENGTHS[pair.fixed.image.dim() - 2])
    answer = optimise(images, settings, Context(context.generator, context.device))
    assert answer.displacement is not None
    return answer.displacement


def teacher_distance(displacement: Tensor, pair: Pair, context: Context) -> Tensor:
    """Mean distance (voxels) of ``displacement`` (B, ndim, *S) from the teacher's, a scalar."""
    return field_distance(displacement, taught(pair, context))
