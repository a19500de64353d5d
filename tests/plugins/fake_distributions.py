"""Writes distributions as an installer would leave them: modules and a .dist-info folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from warm_cli import Ran

Runner = Callable[..., Ran]

METHOD = """
from regtool.api import Method, hookimpl

def method(**changes):
    facts = dict(
        name={name!r}, summary="A fake method.", paper=None, licence="MIT", ndim=(2, 3),
        model="{module}:build", options="{module}:Choices",
    )
    return Method(**(facts | changes))
"""

HOOK = """
@hookimpl
def regtool_method():
    return method()
"""

OPTIONS = """
def __getattr__(name):
    if name != "Choices":
        raise AttributeError(name)
    from regtool.api import Field, Options
    class Choices(Options):
        rounds: int = Field(3, ge=1, description="How often [at least once].")
    return Choices
"""


READER = """
from regtool.api import Case, Field, InputError, Options, PairCase, Reader

class Settings(Options):
    count: int = Field(2, ge=1, description="How many pairs.")

def pair(place, number, **changes):
    image = place / f"{{number}}.nii.gz"
    facts = dict(
        name=f"p{{number}}", fixed=Case(image), moving=Case(image), split="train",
        subject=f"s{{number}}",
    )
    return PairCase(**(facts | changes))

def read(place, settings):
    for number in range(settings.count):
        yield pair(place, number)

READER = dict(name={name!r}, summary="A fake reader.", read=read, settings=Settings)
"""


class Site:
    """A folder of fake distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        body: str = HOOK,
        *,
        distribution: str | None = None,
        version: str = "1.0",
        value: str | None = None,
        before: str = "",
    ) -> str:
        """Install a method ``name`` whose module ends in ``body`` and starts with ``before``.

        Returns the module's name, which is made from the distribution's.
        """
        distribution = distribution or f"fake-{name}"
        module = distribution.replace("-", "_").lower()
        source = before + METHOD.format(name=name, module=module) + OPTIONS + body
        (self.folder / f"{module}.py").write_text(source, "utf-8")
        self.modules.append(module)
        self.declare(distribution, version, f"{name} = {value or module}")
        return module

    def add_reader(
        self,
        name: str,
        body: str = "",
        *,
        distribution: str | None = None,
        value: str | None = None,
        before: str = "",
    ) -> str:
        """Install a reader ``name``; ``body`` may change what ``READER`` holds before it is made.

        It lists ``PLACE/0.nii.gz`` and so on. Returns the module's name.
        """
        distribution = distribution or f"fake-{name}"
        module = distribution.replace("-", "_").lower()
        made = "\nif isinstance(READER, dict):\n    READER = Reader(**READER)\n"
        source = before + READER.format(name=name) + body + made
        (self.folder / f"{module}.py").write_text(source, "utf-8")
        self.modules.append(module)
        line = f"{name} = {value or module + ':READER'}"
        self.declare(distribution, "1.0", line, group="regtool.readers")
        return module

    def declare(
        self, distribution: str, version: str, *lines: str, group: str = "regtool.methods"
    ) -> Path:
        """Write metadata alone, with these lines in a group of entry points."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(head, "utf-8")
        text = "\n".join([f"[{group}]", *lines, ""])
        (info / "entry_points.txt").write_text(text, "utf-8")
        importlib.invalidate_caches()
        return info
