"""What a distribution says about a data reader of its own; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from regtool.data.cases import PairCase
from regtool.plugins.description import API_VERSION

if TYPE_CHECKING:
    from regtool.plugins.options import Options

    Settings = TypeVar("Settings", bound=Options)
    Read = TypeVar("Read", bound=Options, contravariant=True)
else:  # pydantic, which Options is made with, is imported by whoever needs it
    Settings = TypeVar("Settings")
    Read = TypeVar("Read", contravariant=True)


class ReadPairs(Protocol[Read]):
    """The function that lists the pairs of a data set."""

    def __call__(self, place: Path, settings: Read, /) -> Iterable[PairCase]:
        """List the pairs at ``place``, the part before ``?`` with ``~`` expanded.

        No image is opened: a pair holds paths. They come in the same order every time, and depend
        on nothing but what is at ``place`` and on ``settings``. Raise ``InputError`` that names
        the file or folder, what is wrong with it and what to do; an ``OSError`` becomes one.
        """


@dataclass(frozen=True)
class Reader(Generic[Settings]):
    """A data reader: what an entry point of the group ``regtool.readers`` names.

    ``name`` is the entry point's, and what users write before the colon of
    ``NAME:PLACE?setting=value``. ``settings`` is a class of the settings behind the question mark,
    each with a default and a description (``Options`` itself for none); ``read`` gets them checked.
    """

    name: str
    summary: str
    read: ReadPairs[Settings]
    settings: type[Settings]
    api: int = API_VERSION
