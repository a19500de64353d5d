"""Whether the images of ``--data`` and ``--val`` have the dimensions of a preset."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regtool.data.cases import PairCase
from regtool.data.loading import load_image
from regtool.engine.training.plan import Plan
from regtool.errors import UsageError
from regtool.words import either

Check = Callable[[str, Sequence[PairCase]], None]
"""Given an option with its value and the pairs that it names."""


def dimension_check(plan: Plan) -> Check:
    """A check of the first image of each source, which reads it, before all are prepared.

    Only a 3-D preset can be wrong: a 2-D one cuts volumes into slices. It raises UsageError,
    InputError or GeometryError.
    """

    def check(option: str, cases: Sequence[PairCase]) -> None:
        if plan.preset["ndim"] == 3 and cases and load_image(cases[0].fixed).ndim == 2:
            phantom = option.split(maxsplit=1)[1].startswith("phantom")
            raise UsageError(_in_words(option, "" if phantom else cases[0].fixed.image.name, plan))

    return check


def _in_words(option: str, file: str, plan: Plan) -> str:
    """The sentence; ``file`` is the image looked at, empty for one that nobody has named."""
    method = plan.method
    flat = [name for name, preset in method.presets.items() if preset["ndim"] == 2]
    volumes = "3-D data" if file else "3-D data such as phantom:heart3d"
    which = f" ({file})" if file else ""
    if not flat:
        return (
            f"{option}: its images are 2-D{which}, but {method.name} is for 3-D ones only; use "
            f"{volumes}, or a method for 2-D images (regtool methods)"
        )
    return (
        f"{option}: its images are 2-D{which}, but the preset {plan.settings.preset_name!r} of "
        f"{method.name} is 3-D; use --preset {either(flat)}, or {volumes}"
    )
