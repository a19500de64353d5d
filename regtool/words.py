"""Pieces of sentences for messages. Only the standard library is needed here."""

from __future__ import annotations

import re
from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """``1 pair``, ``2 pairs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def either(choices: Iterable[object]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    *first, last = map(str, choices)
    return f"{', '.join(first)} or {last}" if first else last


_WORDS = {
    r"Input should be a valid number, .*": "not a number",
    r"Input should be a valid integer, .*": "not a whole number",
    r"Input should be a valid boolean, .*": "neither true nor false",
    r"Input should be greater than or equal to (.+)": r"must be \1 or more",
    r"Input should be less than or equal to (.+)": r"must be \1 or less",
    r"Input should be (greater|less) than (.+)": r"must be \1 than \2",
    r"Input should be (.+)": r"must be \1",
}


def in_plain_words(message: str) -> str:
    """What pydantic (or typer, in its words) says of a value, as a person would put it."""
    message = message.removeprefix("Value error, ")
    for pattern, words in _WORDS.items():
        if found := re.fullmatch(pattern, message):
            return found.expand(words)
    return message
