"""From a template and its values to the text of one self-contained page."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any


def render(template: str, script: str, **values: Any) -> str:
    """Render a template of this package; every value is escaped.

    Style and script come from the package's own files. The page forbids itself every request and
    every script but its own, by its hash, so that nothing in a record can run or phone home.
    """
    from markupsafe import Markup

    environment = _environment()
    loader = environment.loader
    code = loader.get_source(environment, script)[0]
    style = loader.get_source(environment, "style.css")[0]
    digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        style=Markup(style), script=Markup(code), policy=policy, **values
    )


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("regtool.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["zip"] = zip
    return environment
