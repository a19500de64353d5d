"""Links that hold on GitHub, between files of the repository, turned into links of the site."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path

from regtool_docs.places import DOCS, PLUGINS, ROOT

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_NAMED = re.compile(r"(?<![\[`])`((?:docs|plugins)/[\w./-]+\.md)`(?!`)")
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.M | re.S)


def for_site(markdown: str, source: Path, page: str) -> str:
    """The text of the file ``source`` with its links as they must be in ``page`` of the site.

    A link to what has no page there becomes plain text, one to what is not there at all stays as
    it is, so that the build refuses it. Documents named in code (`docs/x.md`) become links, too.
    """

    def link(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        absolute = (source.parent / path).resolve()
        if not absolute.exists() and not absolute.is_relative_to(DOCS):
            return match[0]
        place = _page_of(absolute)
        if place is None:
            return match[0] if mark else text
        if anchor and "#" in place:
            place = place.partition("#")[0]
        return f"{mark}[{text}]({_relative(place, page)}{hash_}{anchor})"

    def named(match: re.Match[str]) -> str:
        place = _page_of(ROOT / match[1])
        if place is None or place.partition("#")[0] == page:
            return f"`{match[1]}`"
        return f"[`{match[1]}`]({_relative(place, page)})"

    def prose(text: str) -> str:
        return _NAMED.sub(named, _LINK.sub(link, text))

    out, at = [], 0
    for fence in _FENCE.finditer(markdown):
        out += [prose(markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*out, prose(markdown[at:])])


def _page_of(path: Path) -> str | None:
    """The page of the site that shows a file, perhaps with an anchor; None if there is none."""
    if path in (ROOT / "README.md", ROOT):
        return "index.md"
    if path == ROOT / "CHANGELOG.md":
        return "changes.md"
    if path.is_relative_to(PLUGINS) and path.name == "README.md":
        names = _methods_of().get(path.parent.name, [])
        return f"methods/{names[0]}.md" if names else None
    if not path.is_relative_to(DOCS):
        return None
    name = path.relative_to(DOCS).as_posix()
    if name.removesuffix(".md") in {method for names in _methods_of().values() for method in names}:
        return f"methods/{name}#what-was-measured"
    return name


def _relative(place: str, page: str) -> str:
    path, hash_, anchor = place.partition("#")
    return posixpath.relpath(path, posixpath.dirname(page) or ".") + hash_ + anchor


@cache
def _methods_of() -> dict[str, list[str]]:
    """The methods by the folder of their plugin."""
    from regtool_docs.methods import described

    found: dict[str, list[str]] = {}
    for method in described():
        found.setdefault(method["package"], []).append(method["name"])
    return found
