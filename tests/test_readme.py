"""Every command of the README is run, in its order, in one folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
PROGRAM = Path(sys.executable).with_name("regtool")

SUBSTITUTES = {
    "acdc:/data/ACDC": "phantom:heart3d?n=3&size=48",
    "PREFIX": "moving_to_fixed_",
}
EXTRA = {
    "train": ["--set", "steps=2", "--set", "slices_first.steps=2", "--set", "val_every=2"],
    "apply": ["--overwrite"], "register": ["--overwrite"], "jacobian": ["--overwrite"],
}  # fmt: skip


def blocks() -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)


def commands() -> list[str]:
    """The regtool commands of all blocks in the order in which they can follow each other."""
    lines = [line for block in blocks() for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    found = [part for part in parts if part.startswith("regtool ")]
    demo = [c for c in found if c.startswith("regtool demo")]
    return demo + [c for c in found if c not in demo]


def test_the_readme_has_its_commands():
    verbs = {command.split()[1] for command in commands()}
    assert {"register", "apply", "jacobian", "train", "demo", "plugins"} <= verbs


@pytest.mark.slow
def test_every_command_of_the_readme_works(tmp_path):
    environment = {**os.environ, "REGTOOL_THREADS": "2"}
    ran = []
    for command in commands():
        for old, new in SUBSTITUTES.items():
            command = command.replace(old, new)
        words = shlex.split(command)
        words += EXTRA.get(words[1], [])
        done = subprocess.run(
            [str(PROGRAM), *words[1:]], cwd=tmp_path, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran.append(command)
    assert len(ran) == len(commands())


def test_the_first_command_block_works_on_its_pair(tmp_path):
    """Demo and registration with the shipped weights, as a newcomer would type them."""
    line = next(line for line in blocks()[1].splitlines() if "regtool demo" in line)
    for part in line.split("&&")[1:]:
        done = subprocess.run(
            [str(PROGRAM), *shlex.split(part)[1:]], cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert {"moving_to_fixed_Warped.nii.gz", "moving_to_fixed_regtool.json"} <= names
    dice = re.search(r"mean Dice ([\d.]+) before, ([\d.]+) after", done.stderr)
    assert dice is not None
    assert float(dice[2]) > float(dice[1])


def test_the_python_example_names_what_exists():
    from regtool.engine.register import Registration

    code = next(block for block in blocks() if block.startswith("import regtool"))
    named = set(re.findall(r"result\.(\w+)", code))
    assert named <= set(Registration.__dataclass_fields__)
    compile(code, "README.md", "exec")
