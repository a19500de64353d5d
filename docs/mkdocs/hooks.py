"""The site's own part of the build: pages made from the program, links, equations.

Everything that the program knows (options, methods, public names, the README's tables) is taken
from it here, so that no page repeats it by hand.
"""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from regtool_docs import commands, equations, links, methods, reference
from regtool_docs.places import DOCS, ROOT
from regtool_docs.table_of_pages import expand


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, take out what they contain, and fill in the navigation."""
    known = methods.described()
    made = {
        **commands.pages(),
        **reference.pages(),
        **methods.pages(known, config.extra["pictures"]),
        "api.md": reference.overview((DOCS / "api.md").read_text(encoding="utf-8")),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for method in known:  # joined into the page of their method
        _remove(files, f"{method['name']}.md")
    for file in [f for f in files.documentation_pages() if f.src_uri.startswith("methods/")]:
        _remove(files, file.src_uri)
    for name, content in made.items():
        _remove(files, name)
        files.append(File.generated(config, name, content=content))
    for name, picture in methods.pictures(known, config.extra["pictures"]).items():
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    pages = [f.src_uri for f in files.documentation_pages()]
    pages.sort(key=lambda name: name.removesuffix(".md"))
    config.nav = expand(config.nav, pages)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links into the repository, as GitHub has them, into links of the site."""
    return links.for_site(markdown, DOCS / page.file.src_uri, page.file.src_uri)


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Turn TeX into MathML, which browsers draw by themselves."""
    return equations.to_mathml(html, page.file.src_uri)


def _remove(files: Files, name: str) -> None:
    file = files.get_file_from_path(name)
    if file is not None:
        files.remove(file)
