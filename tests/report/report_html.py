"""Reading a page back, to check that it is well formed and keeps to itself."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

_VOID = {"meta", "img", "input", "br", "link", "hr"}
_LINKS = ("src", "href", "srcset", "data", "poster", "action", "background", "xlink:href")


class Page(HTMLParser):
    """Collects text, links and pictures; fails on tags that do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.open: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.policy = ""
        self.alts: list[str | None] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.links += [(tag, found[name] or "") for name in _LINKS if name in found and
                       not (tag == "path" and name == "data")]  # fmt: skip
        self.handlers += [name for name in found if name.startswith("on")]
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag == "img":
            self.alts.append(found.get("alt"))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def check_self_contained(self) -> None:
        """No request leaves the page, and only its own script may run."""
        assert self.tags.count("script") == 1 and "iframe" not in self.tags
        assert self.handlers == []
        for tag, link in self.links:
            assert link.startswith(("data:image/", "#")), (tag, link[:80])
        assert not re.search(r"@import|url\(|fetch\(|XMLHttp|https?://", self._without_data())
        script = re.search(r"<script>(.*?)</script>", self.source, re.S)
        assert script is not None
        digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in self.policy
        assert "default-src 'none'" in self.policy
        assert all(self.alts)

    def _without_data(self) -> str:
        return re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", self.source)
