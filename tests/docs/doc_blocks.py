"""The code blocks of a page of docs/, carried out as a reader would.

`bash` blocks are run line by line, `python` and `toml` blocks with a title are files to write,
`python` without one is run; blocks of other languages (`sh`, `text`, …) are only to be read.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warm_cli import Ran, WarmProcess, environment

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)

TINY: dict[str, tuple[str, ...]] = {
    "demo": ("--kind", "heart2d"),
    "train": ("--steps", "2", "--set", "val_every=2", "--batch", "1"),
}
"""What each command gets in addition, so that it is quick."""

QUICK = ("--set", "iterations=3,2")
"""The same for registrations by instance optimisation."""


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its title and what is inside."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of ``docs/PAGE`` in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [Block(*match) for match in BLOCK.findall(text)]


def lines(text: str) -> list[str]:
    """The commands of a block; a backslash at the end of a line goes on with the next."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@dataclass
class Reader:
    """Somebody who does what a page says, in ``folder``."""

    folder: Path
    warm: WarmProcess
    replaced: Mapping[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def follow(self, page: str) -> None:
        """Do everything that a page says, in its order. Fails where a command fails."""
        for block in blocks(page):
            if block.language in ("python", "toml") and block.title:
                path = self.folder / block.title
                assert path.parent.is_dir(), f"{page}: no folder for {block.title}"
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                self._inside(block.text, f"the Python of {page}")
            elif block.language == "bash":
                for line in lines(block.text):
                    self.run(line)

    def run(self, line: str) -> Ran | None:
        """Run one command of a page, made small."""
        for old, new in self.replaced.items():
            line = line.replace(old, new)
        program, *words = shlex.split(line)
        self.ran.append(line)
        if program == "regtool":
            return self._regtool(words)
        if program == "python":
            return self._process([sys.executable, *words])
        if program == "mkdir":
            (self.folder / words[0]).mkdir()
            return None
        if program == "pip":
            self._pip(words)
            return None
        assert program == "pytest", f"no reader can run {line!r}"
        self._conformance(words[0])
        return None

    def _regtool(self, words: list[str]) -> Ran:
        more = list(TINY.get(words[0], ()))
        if "--kind" in words and "--kind" in more:
            more = []
        if words[0] == "register" and "optimise" in words:
            more = list(QUICK)
        done = self.warm.run([*words, *more], self.folder, before=self._sees_the_plugin())
        assert done.code == 0, f"regtool {shlex.join(words)}\n{done.err}"
        return done

    def _conformance(self, folder: str) -> None:
        """The checks of the plugin's own test, on small images."""
        name = folder.removeprefix("regtool-")
        assert (self.folder / folder / "tests" / "test_conformance.py").is_file()
        self._inside(
            "from regtool.testing import check_method\n"
            f"check_method({name!r}, shapes={{2: (32, 48), 3: (16, 24, 32)}})\n",
            f"pytest {folder}",
        )

    def _inside(self, code: str, what: str) -> None:
        """Run Python in a process that has imported torch."""
        before = self._sees_the_plugin() + code
        done = self.warm.run(["--version"], self.folder, before=before)
        assert done.code == 0, f"{what}\n{done.err}"

    def _pip(self, words: list[str]) -> None:
        """pip without a connection; what is installed goes into a folder of its own."""
        offline = ["--no-index", "--no-deps", "--no-build-isolation"]
        where = ["--prefix", str(self.folder / "prefix")] if words[0] == "install" else []
        given = [word for word in words[1:] if word not in ("--no-deps", "--force-reinstall")]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", words[0], "-q"]
        self._process([*command, *offline, *where, *given])

    def _process(self, command: list[str]) -> Ran:
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        return Ran(done.returncode, done.stdout, done.stderr)

    def _sees_the_plugin(self) -> str:
        """Python that makes what ``pip`` installed here importable, editable or not."""
        return "".join(f"import site; site.addsitedir({str(s)!r})\n" for s in self._sites())

    def _sites(self) -> Iterator[Path]:
        yield from (self.folder / "prefix").glob("**/site-packages")
