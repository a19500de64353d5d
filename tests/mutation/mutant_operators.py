"""Every mutant of a source file: one small edit each, found in its syntax tree.

An edit replaces the characters of one node and leaves all others, so line numbers stay. Type
annotations, docstrings and texts are left alone, and so are ``strict=``, ``encoding=`` and
``device=``, whose loss shows only where another fault is, or on another machine.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"), ast.In: ("in", "not in"), ast.NotIn: (r"not\s+in", "in"),
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"), ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"), ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"),
}  # fmt: skip
_NAMES = {
    "min": "max", "amin": "amax", "argmin": "argmax", "minimum": "maximum", "any": "all",
    "floor": "ceil", "sin": "cos", "zeros": "ones", "zeros_like": "ones_like",
}  # fmt: skip
_OTHER_NAME = _NAMES | {other: name for name, other in _NAMES.items()}
_CLAMPS = ("clamp", "clamp_", "clip")
_KEPT_ARGUMENTS = ("strict", "encoding", "device")


@dataclass(frozen=True)
class Mutant:
    """One edit: the characters ``start`` to ``end`` of a file become ``text``."""

    path: str
    line: int
    operator: str
    start: int
    end: int
    text: str

    def applied(self, source: str) -> str:
        """The source with this edit."""
        return source[: self.start] + self.text + source[self.end :]

    def told(self, source: str) -> str:
        """The line before and after, for a reader."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        before, after = source[first : self.start], source[self.end : last]
        return f"{before.lstrip()}[{source[self.start : self.end]} => {self.text}]{after}"


def mutants(path: str, source: str) -> list[Mutant]:
    """All mutants of one file, in its order; a few of them Python does not compile."""
    return _Finder(path, source).all()


def compiles(source: str) -> bool:
    """Whether Python compiles a source."""
    try:
        compile(source, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


class _Finder:
    def __init__(self, path: str, source: str) -> None:
        self._path, self._source = path, source
        self._tree = ast.parse(source)
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts, self._lines = starts, source.splitlines(keepends=True)

    def all(self) -> list[Mutant]:
        found = {(m.start, m.end, m.text): m for m in self._walk(self._tree)}
        return sorted(found.values(), key=lambda m: (m.start, m.end, m.text))

    def _walk(self, node: ast.AST) -> Iterator[Mutant]:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                # Places inside formatted texts are not exact before Python 3.12.
                if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                    yield from self._of(child)
                    yield from self._walk(child)

    def _of(self, node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare():
                operands = [node.left, *node.comparators]
                for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
                    yield from self._swap("comparison", left, right, *_COMPARISONS[type(op)])
            case ast.BinOp() if type(node.op) in _ARITHMETIC and not _is_text(node):
                old, new = _ARITHMETIC[type(node.op)]
                yield from self._swap("arithmetic", node.left, node.right, re.escape(old), new)
            case ast.AugAssign() if type(node.op) in _ARITHMETIC:
                old, new = _ARITHMETIC[type(node.op)]
                yield from self._swap(
                    "arithmetic", node.target, node.value, re.escape(old) + "=", new + "="
                )
            case ast.BoolOp():
                old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                parts = [f"({self._text(value)})" for value in node.values]
                yield self._edit("boolean", node, f"({f' {new} '.join(parts)})")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from self._swap("boolean", left, right, old, new)
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                yield self._edit("not or sign", node, f"({self._text(node.operand)})")
            case ast.Constant():
                yield from self._constant(node)
            case ast.Return(value=ast.expr()):
                if not (isinstance(node.value, ast.Constant) and node.value.value is None):
                    yield self._edit("return", node, "return None")
            case ast.If() | ast.IfExp() | ast.While():
                if isinstance(node.test, ast.Name | ast.Call | ast.Attribute):
                    yield self._edit("condition", node.test, f"(not {self._text(node.test)})")
            case ast.Raise() | ast.Expr(value=ast.Call()):
                yield self._edit("statement", node, "pass")
            case ast.Break():
                yield self._edit("statement", node, "continue")
            case ast.Continue():
                yield self._edit("statement", node, "break")
            case ast.Call():
                yield from self._call(node)

    def _constant(self, node: ast.Constant) -> Iterator[Mutant]:
        value = node.value
        if isinstance(value, bool):
            yield self._edit("constant", node, str(not value))
        elif isinstance(value, int):
            yield self._edit("constant", node, str(value + 1))
            yield self._edit("constant", node, str(value - 1) if value else "(-1)")
        elif isinstance(value, float):
            others = (2 * value, value / 2) if value else (1.0, -1.0)
            yield from (self._edit("constant", node, f"({other!r})") for other in others)

    def _call(self, node: ast.Call) -> Iterator[Mutant]:
        name = node.func
        if isinstance(name, ast.Attribute) and name.attr in _OTHER_NAME:
            base = self._text(name.value)
            yield self._edit("function", name, f"({base}).{_OTHER_NAME[name.attr]}")
        elif isinstance(name, ast.Name) and name.id in _OTHER_NAME:
            yield self._edit("function", name, _OTHER_NAME[name.id])
        if isinstance(name, ast.Attribute) and name.attr in _CLAMPS:
            module = isinstance(name.value, ast.Name) and name.value.id in ("np", "torch")
            bare = self._text(node.args[0] if module else name.value)
            yield self._edit("clamp", node, f"({bare})")
        kept = [*node.args, *node.keywords]
        for keyword in node.keywords:
            if keyword.arg not in (None, *_KEPT_ARGUMENTS):
                others = [self._text(argument) for argument in kept if argument is not keyword]
                yield self._edit("argument", node, f"{self._text(name)}({', '.join(others)})")

    def _swap(
        self, operator: str, left: ast.expr, right: ast.expr, old: str, new: str
    ) -> Iterator[Mutant]:
        """Replace the operator that stands between two operands."""
        start, end = self._end(left), self._start(right)
        found = re.search(rf"(?<!\w){old}(?!\w)", self._source[start:end])
        if found:
            at = (start + found.start(), start + found.end())
            yield Mutant(self._path, self._line(at[0]), operator, *at, new)

    def _edit(self, operator: str, node: ast.AST, text: str) -> Mutant:
        start, end = self._start(node), self._end(node)
        return Mutant(self._path, self._line(start), operator, start, end, text)

    def _text(self, node: ast.AST) -> str:
        return self._source[self._start(node) : self._end(node)]

    def _start(self, node: ast.AST) -> int:
        return self._offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]

    def _end(self, node: ast.AST) -> int:
        return self._offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def _offset(self, line: int, column: int) -> int:
        """Characters before a place that the tree gives in bytes of UTF-8."""
        text = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(text)

    def _line(self, offset: int) -> int:
        return self._source.count("\n", 0, offset) + 1


def _is_text(node: ast.BinOp) -> bool:
    """Texts and lists put together: with another operator they only raise TypeError."""
    kinds = ast.JoinedStr | ast.List | ast.ListComp | ast.Tuple
    return any(
        isinstance(side, kinds) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )
