"""Settings behind the path of a data reader: ``FOLDER?key=value&key=value``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regtool.data.cases import SPLITS, PairCase
from regtool.errors import UsageError
from regtool.paths import expanded


def whole(text: str) -> int | None:
    """The number that decimal digits stand for; None for other texts, and from ten digits on."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


@dataclass(frozen=True)
class Setting:
    """What a setting may be: one of ``words``, a whole number ``least`` to ``most``, or a path.

    ``told`` says it in words where the reader itself looks at the value; ``help`` what it does.
    """

    default: str | int
    words: tuple[str, ...] = ()
    least: int | None = None
    path: bool = False
    most: int | None = None
    told: str = ""
    help: str = ""

    @property
    def allowed(self) -> str:
        """The allowed values, for a message."""
        to = "" if self.most is None else f" to {self.most}"
        number = [] if self.least is None else [f"a whole number from {self.least}{to}"]
        return self.told or ", ".join([*self.words, *number]) or "the path of a folder"

    @property
    def shown_default(self) -> str | int | None:
        """The default as a user could write it; None where it stands for a setting left out."""
        counts = self.least is not None and self.read(str(self.default)) is None
        return None if counts or self.default == "" else self.default

    def read(self, text: str) -> str | int | None:
        """The value that ``text`` stands for; None if it is not allowed."""
        if self.path:
            return text or None
        if self.least is not None and (number := whole(text)) is not None:
            return number if self.least <= number <= (self.most or number) else None
        return {word.lower(): word for word in self.words}.get(text.lower())


SPLIT = Setting("all", ("all", *SPLITS), help="only these pairs")
"""Which pairs are wanted: those of one split, or all."""
NIFTI = Setting("", path=True, help="write what is no NIfTI file there, once, and use the copies")
"""A folder that gets the images as NIfTI files (regtool.data.nifti_copies)."""


def parse_spec(
    reader: str, spec: str | Path, known: Mapping[str, Setting]
) -> tuple[Path, dict[str, str | int]]:
    """The folder (``~`` expanded) and all settings of ``FOLDER?key=value&…``, defaults filled in.

    Raises UsageError, naming ``reader``, for a setting that is not known or a value that is not
    allowed.
    """
    place, _, query = str(spec).partition("?")
    values: dict[str, str | int] = {key: setting.default for key, setting in known.items()}
    for part in filter(None, query.split("&")):
        key, _, text = part.partition("=")
        if key not in known:
            raise UsageError(f"{reader}:{place}: unknown setting {key!r}; use {', '.join(known)}")
        value = known[key].read(text)
        if value is None:
            raise UsageError(f"{reader}:{place}: {key}={text}: use {known[key].allowed}")
        values[key] = value
    return expanded(place), values


def chosen(pairs: Sequence[PairCase], settings: Mapping[str, str | int]) -> list[PairCase]:
    """The pairs of the wanted split, as NIfTI files if these are wanted.

    Raises as ``regtool.data.nifti_copies.as_nifti``.
    """
    wanted = [p for p in pairs if settings["split"] in ("all", p.split)]
    if not settings.get("nifti"):
        return wanted
    from regtool.data.nifti_copies import as_nifti

    return as_nifti(wanted, expanded(str(settings["nifti"])))
