"""From a method's options and its pair to the energies that steer."""

from __future__ import annotations

from torch import Tensor

from regtool.diffusion.energies import Direction, Energy, Organ, OrganImages, Smoothness
from regtool.diffusion.guidance import Steering
from regtool.diffusion.scale import FieldScale
from regtool.diffusion.schedule import NoiseSchedule
from regtool.errors import UsageError
from regtool.plugins.exchange import Pair
from regtool.plugins.sampling_options import SamplingOptions, Where


def steering_of(
    options: SamplingOptions, pair: Pair, field: FieldScale, schedule: NoiseSchedule
) -> Steering | None:
    """What the options ask for; None where they ask for nothing.

    A direction is given in the world (LPS), and turned to the tensor axes of the pair here.
    Raises UsageError for masks or labels that are not there, or a vector of another dimension.
    """
    energies: dict[str, Energy] = {}
    if options.smoothness:
        energies["smoothness"] = Smoothness(options.smoothness)
    if options.direction is not None:
        energies["direction"] = _direction(options, options.direction, pair)
    if options.organ is not None:
        energies["organ"] = _organ(options, options.organ, pair)
    if not energies:
        return None
    below = round(options.guide_below * schedule.steps)
    return Steering(
        energies, field, below, options.guide_clip, through_network=options.through_network
    )


def unused_masks(options: SamplingOptions, pair: Pair) -> str | None:
    """A sentence about masks that were given and that no option takes up."""
    if pair.moving.mask is not None:
        return "the mask of the moving image is not used by this method"
    used = "mask" in (options.organ, options.direction_in)
    if pair.fixed.mask is None or used:
        return None
    return "the mask is not used; it serves --set direction_in=mask and --set organ=mask"


def _direction(options: SamplingOptions, vector: tuple[float, ...], pair: Pair) -> Direction:
    try:
        along = pair.fixed.along_axes(vector)
    except ValueError as error:
        raise UsageError(
            f"option 'direction': {len(vector)} components; give x, y and for volumes z in the "
            "world (LPS) of the fixed image"
        ) from error
    if not any(abs(v) > 1e-6 for v in along):
        raise UsageError(f"option 'direction': {vector} has no length in the image's plane")
    where = _where(options.direction_in, pair, "direction_in")
    return Direction(options.direction_scale, along, where, pair.fixed.spacing)


def _organ(options: SamplingOptions, organ: Where, pair: Pair) -> Energy:
    fixed, moving = pair.fixed, pair.moving
    if isinstance(organ, int) and fixed.labels is not None and moving.labels is not None:
        try:
            return Organ.of_labels(options.organ_scale, fixed.labels, moving.labels, organ)
        except ValueError as error:
            raise UsageError(f"option 'organ': {error}") from error
    mask = _where(organ, pair, "organ")
    assert mask is not None
    return OrganImages(options.organ_scale, fixed.image, moving.image, mask)


def _where(where: Where, pair: Pair, option: str) -> Tensor | None:
    """The mask (B, 1, *S) that an option names on the fixed image; None for everywhere."""
    if where is None:
        return None
    if where == "mask":
        if pair.fixed.mask is None:
            raise UsageError(f"option '{option}': give the mask, --fixed-mask")
        return pair.fixed.mask
    if pair.fixed.labels is None:
        raise UsageError(f"option '{option}': give the labels, --fixed-labels")
    found = (pair.fixed.labels == where).float()
    if not found.any():
        raise UsageError(f"option '{option}': label {where} is not in the fixed labels")
    return found
