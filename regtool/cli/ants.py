"""What users of ANTs type out of habit, and what ``apply`` and ``jacobian`` have instead."""

from __future__ import annotations

import re

INTERPOLATIONS = {
    "linear": "linear",
    "nearestneighbor": "nearest",
    "nearestneighbour": "nearest",
    "multilabel": "label",
    "genericlabel": "label",
    "labels": "label",
    "bspline": "bspline",
    "cubic": "bspline",
}
"""Other names of ``-n``, in small letters and without parameters in brackets."""

_OPTIONS = {
    "-d": "the files say their dimension",
    "--dimensionality": "the files say their dimension",
    "-e": "series and colours are recognised",
    "--input-image-type": "series and colours are recognised",
    "-f": "--fill VALUE",
    "--default-value": "--fill VALUE",
    "-i": "the image is given without an option",
    "--input": "the image is given without an option",
}
_VALUE = re.compile(r"'-n' / '--interpolation': '(\w+)(?:\[.*\])?' is not one of")
_OPTION = re.compile(r"no such option: (-\S+)", re.IGNORECASE)


def hint(command: str, text: str) -> str:
    """What to add to an error of the command line, nothing for most of them."""
    extra = text.lower().startswith("got unexpected extra argument")
    if command.endswith(" jacobian") and extra:
        return ": one record or field alone; -o names the map, --log asks for logarithms"
    if not command.endswith(" apply"):
        return ""
    value, option = _VALUE.search(text), _OPTION.match(text)
    if value is not None and value[1].lower() in INTERPOLATIONS:
        return f". Did you mean {INTERPOLATIONS[value[1].lower()]}?"
    if option is not None and option[1] in _OPTIONS:
        return f": {_OPTIONS[option[1]]}"
    if not extra:
        return ""
    if text.endswith(("(0])", "(1])")):
        return ": write [affine.mat,1] without a space"
    return ": one image at a time, and -t before each transform"
