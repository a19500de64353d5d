"""What a Hub answers is checked before its client makes names of files of it.

The client of the Hub (huggingface_hub) calls the file of a download after the ETag, and a folder
after the commit, that the server names; ``../../x`` would lead out of its cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from regtool.errors import WeightsError

_TAG = re.compile(r"(?!\.+$)[\w.+=-]{1,128}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@contextmanager
def checked_answers() -> Iterator[None]:
    """While this is entered, an answer that names no possible file raises WeightsError.

    It concerns all requests of the client's session, which is one for the whole process.
    """
    from huggingface_hub import get_session

    session: Any = get_session()
    before = session.event_hooks
    session.event_hooks = {**before, "response": [*before.get("response", ()), _check]}
    try:
        yield
    finally:
        session.event_hooks = before


def _check(response: Any) -> None:
    for header in ("ETag", "X-Linked-Etag"):
        tag = response.headers.get(header)
        if tag is not None and not _TAG.fullmatch(tag.removeprefix("W/").strip('"')):
            raise WeightsError(f"the Hub answered with an {header} that is none: {tag[:80]!r}")
    commit = response.headers.get("X-Repo-Commit")
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise WeightsError(f"the Hub answered with a commit that is none: {commit[:80]!r}")
