"""TeX to MathML, so that equations need neither a script nor a connection."""

from __future__ import annotations

import html
import re

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)


def to_mathml(page: str, name: str) -> str:
    """A page's HTML with the spans and blocks that pymdownx.arithmatex leaves as MathML.

    Raises ValueError naming the page for TeX that cannot be read.
    """

    def convert(match: re.Match[str], display: str) -> str:
        from latex2mathml.converter import convert

        tex = html.unescape(match[1]).strip()
        try:
            return convert(tex, display=display)
        except Exception as error:  # the library has many of its own
            raise ValueError(f"{name}: {tex!r} is no TeX that can be drawn: {error!r}") from error

    page = _BLOCK.sub(lambda m: f'<div class="equation">{convert(m, "block")}</div>', page)
    return _INLINE.sub(lambda m: convert(m, "inline"), page)
