"""A value of the wrong kind is told in plain words, not in those of the library that found it."""

from __future__ import annotations

import pytest
from cli_cases import Program


@pytest.mark.parametrize(
    ("args", "threads", "words"),
    [
        (("apply", "x", "-r", "y", "-t", "z", "--fill", "abc"), None, "'--fill': not a number;"),
        (
            ("register", "a", "b"), "abc",
            "'--threads' (env var: 'REGTOOL_THREADS'): not a whole number;",
        ),
        (("register", "a", "b", "--threads", "1.5"), None, "'--threads': not a whole number;"),
        (("register", "a", "b", "--threads", "0"), None, "'--threads': must be 1 or more;"),
    ],
)  # fmt: skip
def test_options(regtool: Program, args: tuple[str, ...], threads: str | None, words: str) -> None:
    ran = regtool(*args, env={"REGTOOL_THREADS": threads} if threads else None)
    assert ran.code == 2
    assert ran.err.startswith(f"regtool: error: invalid value for {words} see regtool ")
