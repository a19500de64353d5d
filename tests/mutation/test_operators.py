"""What the mutation operators make of a small source, and the sample that is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutant_operators import compiles, mutants
from mutant_sample import PACKAGES, sample

ROOT = Path(__file__).parents[2]


def made(source: str) -> dict[str, set[str]]:
    """The mutated sources by operator."""
    found: dict[str, set[str]] = {}
    for mutant in mutants("a.py", source):
        found.setdefault(mutant.operator, set()).add(mutant.applied(source))
    return found


@pytest.mark.parametrize(
    ("source", "operator", "expected"),
    [
        ("a < b", "comparison", {"a <= b"}),
        ("a <= b < c", "comparison", {"a < b < c", "a <= b <= c"}),
        ("a is not b", "comparison", {"a is b"}),
        ("(a + b) * c", "arithmetic", {"(a - b) * c", "(a + b) / c"}),
        ("'µ' if a else b - c", "arithmetic", {"'µ' if a else b + c"}),
        ("a += b", "arithmetic", {"a -= b"}),
        ("a and b", "boolean", {"((a) or (b))", "a or b"}),
        ("a and (b or c)", "boolean",
         {"((a) or (b or c))", "a or (b or c)", "a and (((b) and (c)))", "a and (b and c)"}),
        ("not a", "not or sign", {"(a)"}),
        ("f(x, dim=-1)", "argument", {"f(x)"}),
        ("f(x, device=d)", "argument", set()),
        ("a[2]", "constant", {"a[3]", "a[1]"}),
        ("a = 1e-5", "constant", {"a = (2e-05)", "a = (5e-06)"}),
        ("(a + b).min()", "function", {"(a + b).max()"}),
        ("max(a, b)", "function", {"min(a, b)"}),
        ("(a / b).clamp(min=c)", "clamp", {"(a / b)"}),
        ("np.clip(a, b, c)", "clamp", {"(a)"}),
        ("def f(a: int | None = g()): return a", "return",
         {"def f(a: int | None = g()): return None"}),
        ("def f(a: int | None) -> int | str: pass", "arithmetic", set()),
        ("check(a)", "statement", {"pass"}),
        ("for a in b: continue", "statement", {"for a in b: break"}),
        ("if f(a): pass", "condition", {"if (not f(a)): pass"}),
    ],
)  # fmt: skip
def test_each_operator(source: str, operator: str, expected: set[str]) -> None:
    assert made(source).get(operator, set()) == expected


def test_only_the_place_of_an_edit_changes() -> None:
    source = '"""Text 1."""\n\nx = f"{y + 1}"  # 3\nz = 4  # é 5\n'
    lines = {(m.line, m.applied(source).splitlines()[m.line - 1]) for m in mutants("a", source)}
    assert lines == {(4, "z = 5  # é 5"), (4, "z = 3  # é 5")}


def test_a_sample_is_the_same_each_time_and_shared_by_lines() -> None:
    chosen = sample(ROOT, 60, seed=3)
    assert len(chosen) == 60 == len({(m.path, m.line) for m in chosen})
    assert chosen == sample(ROOT, 60, seed=3)
    lines = {
        package: sum(len(f.read_text("utf-8").splitlines()) for f in (ROOT / package).rglob("*.py"))
        for package in PACKAGES
    }
    for package, count in lines.items():
        share = sum(m.path.startswith(package) for m in chosen)
        assert share == pytest.approx(60 * count / sum(lines.values()), abs=2)
    for mutant in chosen:
        source = (ROOT / mutant.path).read_text("utf-8")
        assert mutant.applied(source) != source and compiles(mutant.applied(source))
