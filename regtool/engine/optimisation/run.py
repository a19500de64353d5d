"""All levels of an instance optimisation, from a start to the finest grid."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from regtool.engine.optimisation.content import Content
from regtool.engine.optimisation.convex import convex_start
from regtool.engine.optimisation.forms import begin
from regtool.engine.optimisation.objective import Objective
from regtool.engine.optimisation.pyramid import at_level, shapes, still
from regtool.engine.optimisation.settings import Optimisation
from regtool.plugins.exchange import Context, Pair, Prediction
from regtool.spatial.repair import repair, scan_displacement
from regtool.spatial.resize import resize


def optimise(
    pair: Pair, settings: Optimisation, context: Context, start: Tensor | None = None
) -> Prediction:
    """Fit a displacement (B, ndim, *S), in voxels, to a pair of images (B, C, *S).

    Starts from the displacement ``start`` (same form) or from zero, and with ``settings.convex``
    from an exhaustive search on top. Masks weight the similarity. The answer holds the inverse for
    ``symmetric``, and velocity and inverse for the formulation ``velocity`` begun at zero.
    ``context.preview`` sees what there is after each level and may stop the optimisation;
    ``context.report`` counts iterations. Batch elements are optimised each by itself, but Adam
    stops when they have converged together. The compositive answer has no fold (see
    ``regtool.spatial.repair``), symmetric ones and Adam's may. Where both images are empty around
    their content, only the box of the content is computed, and the field goes on as at its border.
    The answer's note ``settings`` holds the values that ran.
    Raises ValueError where labels or landmarks are asked for and not there.
    """
    content = Content(pair)
    if content.cuts:
        pair, start = content.cut_pair(pair), None if start is None else content.cut(start)
    image = pair.fixed.image
    shape = tuple(image.shape[2:])
    sizes = shapes(shape, pair.fixed.spacing, len(settings.iterations))
    progress = _Progress(settings.iterations, context)
    fluid = settings.formulation == "compositive" and not settings.symmetric
    form = None
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        for number, (size, count) in enumerate(zip(sizes, settings.iterations, strict=True)):
            level = at_level(pair, size)
            if form is None:
                zero = still(level)
                form = begin(zero if start is None else resize(start.float(), size), settings)
                if settings.convex:
                    form.search(convex_start(level))
            form.resize(size)
            form.descend(Objective(level, settings.at_level(number)), count, progress.tick)
            progress.finish(number)
            last = number + 1 == len(sizes)
            found = form.prediction(shape) if last or context.watched else None
            if found is not None and fluid:  # any may be the answer, if the preview says so
                _mend(found, pair.fixed.spacing)
            found = content.extend(found) if found is not None and content.cuts else found
            if found is not None and not context.preview(number, found):
                break
        assert found is not None
        found.notes["settings"] = _told(settings, sizes)
        return found


def _told(settings: Optimisation, sizes: list[tuple[int, ...]]) -> dict[str, Any]:
    """What decided a result, as JSON: one value a level, coarse to fine, in lists.

    ``shrink``: how much coarser each level is along x, y, z. Only what the formulation and the
    similarity look at is named.
    """
    gaussian = settings.formulation == "compositive"
    similarity = {"ncc": "window", "mi": "bins"}.get(settings.similarity)
    whole = ["formulation", "similarity", "symmetric", "convex", "smoothness", "bending", "rate",
             "tolerance", "patience", "labels", "landmarks"]  # fmt: skip
    whole += ["balance"] * gaussian + ["bins"] * (similarity == "bins")
    by_level = ["window"] * (similarity == "window") + ["update_sigma", "total_sigma"] * gaussian
    levels = [settings.at_level(number) for number in range(len(sizes))]
    return {
        **{name: getattr(settings, name) for name in whole},
        "shrink": [
            [2 ** round(math.log2(a / b)) for a, b in zip(sizes[-1][::-1], size[::-1], strict=True)]
            for size in sizes
        ],
        "iterations": list(settings.iterations),
        **{name: [getattr(level, name) for level in levels] for name in by_level},
    }


def _mend(found: Prediction, spacing: tuple[float, ...]) -> None:
    """Unfold the few cells that small composed steps leave folded on a grid of voxels."""
    u = found.displacement
    assert u is not None
    if scan_displacement(u).count:
        found.displacement = repair(u, spacing).to(u)


class _Progress:
    """Counts iterations for the progress bar; a level that ends early counts as a whole."""

    def __init__(self, iterations: tuple[int, ...], context: Context) -> None:
        self.iterations, self.context, self.done = iterations, context, 0

    def tick(self) -> None:
        self.done += 1
        self.context.report(self.done, sum(self.iterations))

    def finish(self, level: int) -> None:
        done = sum(self.iterations[: level + 1])
        if done != self.done:
            self.done = done
            self.context.report(done, sum(self.iterations))
