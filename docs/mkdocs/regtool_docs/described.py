"""An extension of griffe that keeps the reference short: no entry says what another says.

The fields of a dataclass are in its signature and its text, so they get no entries of their own
unless they have a text of their own; neither do other attributes without one. The fields of a
pydantic class take theirs from the description in ``Field(…, description=…)``.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe


class Described(griffe.Extension):
    """Prepares classes for their pages."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Go through all classes once the package is loaded."""
        # Before the fields of a dataclass go, its signature is made from them.
        griffe.DataclassesExtension().on_package(pkg=pkg)
        self._walk(pkg)

    def _walk(self, thing: griffe.Object) -> None:
        if thing.docstring:  # "so::" before a block is not Markdown
            thing.docstring.value = re.sub(r"::$", ":", thing.docstring.value, flags=re.M)
        for member in list(thing.members.values()):
            if member.is_alias:
                continue
            if member.is_class:
                _prepare(member)  # type: ignore[arg-type]
            if member.is_class or member.is_module:
                self._walk(member)  # type: ignore[arg-type]


def _prepare(found: griffe.Class) -> None:
    for name, member in list(found.members.items()):
        if member.is_alias or not member.is_attribute or member.docstring:
            continue
        if "property" in member.labels:
            continue
        text = _description(member)
        if text is not None:
            member.docstring = griffe.Docstring(text, parent=member)  # type: ignore[arg-type]
            member.value = _default(member)  # type: ignore[union-attr]
        else:
            del found.members[name]


def _call(attribute: Any) -> ast.Call | None:
    try:
        node = ast.parse(str(attribute.value), mode="eval").body
    except SyntaxError:
        return None
    is_field = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Field"
    return node if is_field else None  # type: ignore[return-value]


def _description(attribute: Any) -> str | None:
    node = _call(attribute)
    if node is None:
        return None
    for keyword in node.keywords:
        if keyword.arg == "description":
            return str(ast.literal_eval(keyword.value))
    return None


def _default(attribute: Any) -> str:
    node = _call(attribute)
    assert node is not None
    return ast.unparse(node.args[0]) if node.args else "..."
