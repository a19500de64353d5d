"""One page a method, joined from all that is known of it.

In this order: what the program says (`regtool methods NAME --json`), the idea and the equations
(docs/methods/NAME.md), our numbers (the README's tables), pictures, the plugin's README, what was
measured (docs/NAME.md), options, presets and weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from regtool_docs import drawn, links, numbers
from regtool_docs.places import DOCS, PLUGINS, ROOT
from regtool_docs.tables import code, table

Facts = dict[str, Any]


@cache
def described() -> tuple[Facts, ...]:
    """What `regtool methods NAME --json` prints, for every method that comes with regtool.

    ``package`` is added: the folder of its plugin.
    """
    from regtool.plugins import discovery

    return tuple(
        {**_json(entry.name), "package": entry.value.partition(".")[0]}
        for entry in discovery.available()
        if entry.distribution == "regtool"
    )


def _json(name: str) -> Facts:
    from regtool.cli import messages
    from regtool.cli.methods import methods

    messages.install()  # as the program does before any command
    out = StringIO()
    with redirect_stdout(out):
        methods(name, as_json=True)
    return json.loads(out.getvalue())


def pages(known: tuple[Facts, ...], with_pictures: bool) -> dict[str, str]:
    """The pages ``methods/NAME.md`` and ``methods/index.md`` by name."""
    made = {f"methods/{m['name']}.md": "\n".join(_page(m, with_pictures)) for m in known}
    return {"methods/index.md": _overview(known), **made}


def pictures(known: tuple[Facts, ...], wanted: bool) -> dict[str, Path]:
    """The picture files of all pages by their place in the site."""
    if not wanted:
        return {}
    return {
        f"methods/{method['name']}-{path.name}": path
        for method in known
        for path in drawn.pictures(method).files
    }


def _page(method: Facts, with_pictures: bool) -> Iterator[str]:
    name = method["name"]
    place = f"methods/{name}.md"
    idea = DOCS / "methods" / f"{name}.md"
    title, body = _halves(idea.read_text(encoding="utf-8") if idea.exists() else f"# {name}\n")
    yield f"# {title}\n"
    yield f"{escape(method['summary'])}\n"
    yield from _facts(method)
    yield links.for_site(body, idea, place)
    yield from numbers.section(name)
    if with_pictures:
        yield from drawn.section(method)
    for heading, file in (
        ("How to use it", PLUGINS / method["package"] / "README.md"),
        ("What was measured", DOCS / f"{name}.md"),
    ):
        if file.exists():
            yield f"## {heading}\n"
            joined = _demoted(_halves(file.read_text(encoding="utf-8"))[1])
            yield links.for_site(joined, file, place)
    yield from _options(method)
    yield from _presets(method)
    yield from _weights(method)


def _halves(text: str) -> tuple[str, str]:
    """The title of a document, and the rest."""
    match = re.match(r"\s*# (.*)\n", text)
    assert match is not None, f"a document without a title: {text[:60]!r}"
    return match[1], text[match.end() :]


def _demoted(text: str) -> str:
    """Headings one level deeper; lines of code that begin with # stay."""
    parts = re.split(r"(^```.*?^```\s*$)", text, flags=re.M | re.S)
    parts[::2] = [re.sub(r"^(#+) ", r"#\1 ", part, flags=re.M) for part in parts[::2]]
    return "".join(parts)


def _facts(method: Facts) -> Iterator[str]:
    paper = method["paper"]
    rows = [
        ("method", code(f"-m {method['name']}")),
        ("images", ", ".join(f"{n}-D" for n in method["ndim"])),
        ("made for", escape(f"{_any(method, 'anatomy', 'organ')}; {_any(method, 'modality')}")),
        ("capabilities", escape(", ".join(method["capabilities"]) or "none")),
        ("weights", _default_weights(method)),
        ("licence of the code", escape(method["licence"])),
    ]
    if paper:
        url, words = escape(paper["url"]), f"{paper['authors']} ({paper['year']}). {paper['title']}"
        rows.insert(0, ("paper", f'<a href="{url}">{escape(words)}</a>'))
    yield table(("", ""), rows)


def _any(method: Facts, key: str, word: str = "") -> str:
    return f"any {word or key}" if method[key] == ["any"] else ", ".join(method[key])


def _default_weights(method: Facts) -> str:
    if method["weights"]:
        return ", ".join(code(ref["name"]) for ref in method["weights"])
    return "none yet: train it" if method["trainable"] else "none needed"


def _options(method: Facts) -> Iterator[str]:
    yield "## Options\n"
    if not method["options"]:
        yield "None.\n"
        return
    yield "At registration, with `--set NAME=VALUE`:\n"
    yield table(
        ("option", "type", "default", ""),
        [
            (code(o["name"]), escape(o["type"]), code(_value(o["default"])), escape(o["help"]))
            for o in method["options"]
        ],
        [f"option-{o['name']}" for o in method["options"]],
    )


def _presets(method: Facts) -> Iterator[str]:
    if not method["trainable"]:
        return
    yield "## Presets\n"
    yield (
        f"What `regtool train -m {method['name']} --preset NAME` starts from; "
        "`--set` changes any of it.\n"
    )
    for name, preset in method["presets"].items():
        settings = json.dumps(preset, indent=2, ensure_ascii=False)
        indented = "\n".join(f"    {line}" for line in f"```json\n{settings}\n```".splitlines())
        yield f'??? note "{name}, {preset["ndim"]}-D"\n\n{indented}\n'


def _weights(method: Facts) -> Iterator[str]:
    if not method["weights"]:
        return
    yield "## Weights\n"
    yield "The first of each dimension is the default. The model cards:\n"
    for ref in method["weights"]:
        card = ROOT / "weights" / ref["name"] / "README.md"
        text = card.read_text(encoding="utf-8").split("---\n", 2)[-1] if card.exists() else ""
        body = re.sub(r"^# .*\n", "", text.lstrip(), count=1)
        body = re.sub(r"^#+ (.*)$", r"**\1**", body, flags=re.M)
        yield f'??? note "{ref["name"]}, {ref["ndim"]}-D, {ref["anatomy"]}, {ref["licence"]}"\n'
        yield "\n".join(f"    {line}" if line else "" for line in body.splitlines()) + "\n"


def _overview(known: tuple[Facts, ...]) -> str:
    """The hand-written part with the lists of all methods and the README's tables put in."""
    path = DOCS / "methods" / "index.md"
    text = links.for_site(path.read_text(encoding="utf-8"), path, "methods/index.md")
    rows = [
        (
            f'<a href="{m["name"]}.html">{code(m["name"])}</a>',
            ", ".join(f"{n}-D" for n in m["ndim"]),
            escape(m["summary"]),
            _default_weights(m),
        )
        for m in known
    ]
    listed = table(("method", "images", "", "weights"), rows)
    return f"{text}\n## All methods\n\n{listed}\n{numbers.everything()}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_value, value)) if isinstance(value, list) else str(value)
