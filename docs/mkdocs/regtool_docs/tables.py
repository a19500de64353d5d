"""Tables as HTML: their cells may hold anything, pipes and stars as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def code(text: str) -> str:
    """A cell's text as code."""
    return f"<code>{escape(text)}</code>" if text else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], ids: Sequence[str] = ()) -> str:
    """A table of cells that are HTML already; ``ids``: anchors of the rows."""
    head = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = []
    for number, row in enumerate(rows):
        anchor = f' id="{escape(ids[number])}"' if ids else ""
        body.append(f"<tr{anchor}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    if not any(header):
        return f"<table>\n<tbody>\n{chr(10).join(body)}\n</tbody>\n</table>\n"
    return (
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(body)}\n"
        "</tbody>\n</table>\n"
    )
