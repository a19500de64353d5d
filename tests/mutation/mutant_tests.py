"""Which tests run a line, and how long each takes, from a run of the suite with contexts."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as Xml
from pathlib import Path

import coverage
from mutant_operators import Mutant


class Tests:
    """The tests that passed in a recorded run: their seconds, and the lines that each ran."""

    def __init__(
        self, data: list[Path], reports: list[Path], root: Path, slowest: float | None = None
    ) -> None:
        passed = {k: v for report in reports for k, v in _passed(report).items()}
        self._seconds = {k: v for k, v in passed.items() if slowest is None or v <= slowest}
        self._data = []
        for file in data:
            read = coverage.CoverageData(str(file))
            read.read()
            self._data.append(read)
        self._root = root
        self._lines: dict[str, dict[int, set[str]]] = {}

    def of(self, mutant: Mutant) -> list[tuple[str, float]]:
        """The tests that run a mutant, the fastest first, with their seconds.

        A line that is run on import only (a constant, a signature) goes with what stands in its
        body, or with the whole file.
        """
        lines = self._of_file(mutant.path)
        first, last = _reach(self._root / mutant.path, mutant.line)
        names = {name for line in range(first, last + 1) for name in lines.get(line, ())}
        if not names:
            names = {name for tests in lines.values() for name in tests}
        known = [(name, self._seconds[name]) for name in names if name in self._seconds]
        return sorted(known, key=lambda item: (item[1], item[0]))

    def _of_file(self, path: str) -> dict[int, set[str]]:
        if path not in self._lines:
            lines: dict[int, set[str]] = {}
            for data in self._data:
                for file in data.measured_files():
                    if file.endswith("/" + path):
                        for line, contexts in data.contexts_by_lineno(file).items():
                            names = {_test_of(context) for context in contexts} - {""}
                            lines.setdefault(line, set()).update(names)
            self._lines[path] = lines
        return self._lines[path]


def _test_of(context: str) -> str:
    """The test's name of a context such as ``a.py::test_b[c]|run``."""
    return next((part for part in context.split("|") if "::" in part), "")


def _passed(report: Path) -> dict[str, float]:
    found = {}
    for case in Xml.parse(report).getroot().iter("testcase"):
        if case.find("failure") is None and case.find("error") is None:
            file = case.get("classname", "").replace(".", "/") + ".py"
            found[f"{file}::{case.get('name')}"] = float(case.get("time", "0"))
    return found


def _reach(file: Path, line: int) -> tuple[int, int]:
    """The lines that stand for a line: its statement, or the body of the function it heads."""
    best = (line, line)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[0].lineno
            if node.lineno <= line < body:
                return body, node.end_lineno or body
        elif isinstance(node, ast.stmt) and not hasattr(node, "body"):
            end = node.end_lineno or node.lineno
            if node.lineno <= line <= end:
                best = (node.lineno, end)
    return best
