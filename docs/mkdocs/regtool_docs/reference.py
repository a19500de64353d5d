"""The pages of the public names: one a module of ``regtool.api``, one of ``regtool.testing``."""

from __future__ import annotations

import ast
import pkgutil
from html import escape
from pathlib import Path

MARK = "<!-- the modules -->"
"""Where docs/api.md has its table."""

MODULES = ("regtool.testing",)
"""Public modules besides those of ``regtool.api``."""

FOREIGN = {"regtool.api": {"Field": "pydantic's `Field`, as it is, for the fields of `Options`."}}
"""Public names that come from another library, which the reference does not look into."""


def modules() -> list[str]:
    """The public modules, those of ``regtool.api`` found in its folder."""
    import regtool.api

    inner = sorted(module.name for module in pkgutil.iter_modules(regtool.api.__path__))
    return ["regtool.api", *(f"regtool.api.{name}" for name in inner), *MODULES]


def pages() -> dict[str, str]:
    """The pages ``reference/MODULE.md`` by name; mkdocstrings fills them."""
    made = {f"reference/{name}.md": _page(name) for name in modules()}
    made["reference/regtool.md"] = _VERBS
    return made


def overview(text: str) -> str:
    """The text of docs/api.md with the table of the modules at its mark."""
    from importlib.util import find_spec

    from regtool_docs.tables import table

    rows = []
    for name in modules():
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        said = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        first = escape(" ".join(said.split("\n\n")[0].split()))
        rows.append((f'<a href="reference/{name}.html"><code>{name}</code></a>', first))
    return text.replace(MARK, table(("module", "holds"), rows))


def _page(module: str) -> str:
    return (
        f"# {module}\n\n::: {module}\n    options:\n      show_root_heading: false\n"
        "      show_root_toc_entry: false\n"
    ) + "".join(
        f"\n## {name} {{ #{module}.{name} }}\n\n{text}\n"
        for name, text in FOREIGN.get(module, {}).items()
    )


_VERBS = """\
# regtool

What the commands do, from Python: `regtool.register`, which returns a `Registration`, and from
`regtool.engine.evaluate.pair` the function `evaluate_record`.

::: regtool.engine.register.register
    options: {show_root_full_path: false}

::: regtool.engine.register.Registration
    options: {show_root_full_path: false}

::: regtool.engine.request.Request
    options: {show_root_full_path: false}

::: regtool.engine.evaluate.pair.evaluate_record
    options: {show_root_full_path: false}
"""
