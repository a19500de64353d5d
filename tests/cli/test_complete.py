"""What the Tab key offers: commands, options, and the names of what is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_cases import Program
from warm_cli import environment, script

from regtool.plugins import discovery

PRESETS = ["preset=fast", "preset=default", "preset=accurate"]


def offered(regtool: Program, line: str, **env: str) -> list[str]:
    """What bash would be told where Tab is pressed at the end of ``line``."""
    words = line.split()
    count = str(len(words) - (not line.endswith(" ")))
    ask = {"_REGTOOL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": count}
    ran = regtool(env={**ask, **env}).ok()
    assert ran.err == ""
    return ran.out.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("regtool reg", ["register"]),
        ("regtool register --ref", ["--refine"]),
        ("regtool apply x.nii -n l", ["linear", "label"]),
        ("regtool register -m ldm", ["ldm-morph"]),
        ("regtool register -m nothing", []),
        ("regtool register -m vtn -w ", ["vtn-acdc-3d"]),
        ("regtool register -w voxelmorph-acdc-2", ["voxelmorph-acdc-2d"]),
        ("regtool register -m nothing -w ", []),
        ("regtool register --initial a", ["affine"]),
        ("regtool register -m optimise --set pre", PRESETS),
        ("regtool register -m diffusemorph --set synth", ["synthesize=true", "synthesize=false"]),
        ("regtool train -m ldm-morph --preset comp", ["compact", "compact-ultrasound"]),
        ("regtool train -m rig", []),  # is no method to train
        ("regtool methods opt", ["optimise"]),
        ("regtool weights path ldm", ["ldm-morph-acdc"]),
    ],
)
def test_the_shell_completes(line: str, wanted: list[str], regtool: Program) -> None:
    found = offered(regtool, line)
    if line.endswith(" ldm"):
        assert wanted[0] in found and all(name.startswith("ldm") for name in found)
    else:
        assert found == wanted


def test_all_methods_and_the_own_weights_of_the_method(regtool: Program, tmp_path: Path) -> None:
    assert offered(regtool, "regtool register -m ") == discovery.names()
    mine = tmp_path / "mine"
    mine.mkdir()
    facts = {"schema": 1, "method": "vtn", "ndim": 3, "network": {}, "preparation": {}}
    (mine / "config.json").write_text(json.dumps(facts))
    (mine / "model.safetensors").touch()
    where = {"REGTOOL_WEIGHTS_DIR": str(tmp_path)}
    assert "mine" in offered(regtool, "regtool register -m vtn -w ", **where)
    assert "mine" not in offered(regtool, "regtool register -m ldm-morph -w ", **where)
    assert "mine" in offered(regtool, "regtool weights verify ", **where)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_itself(tmp_path: Path) -> None:
    """The printed script in a real bash, whose function the Tab key would call."""
    lines = f"""
export PATH={script().parent}:$PATH
source <(regtool --show-completion bash)
try() {{
    COMP_WORDS=(regtool "$@") COMP_CWORD=$#
    _regtool_completion regtool
    echo "${{COMPREPLY[@]}}"
}}
try register -m fsd
try register -m optimise --set preset =
try register -m optimise --set preset = acc
try register -m optimise --set preset = fast --ini
try register -m optimise --set preset = fast ""
complete -p regtool
"""
    ran = subprocess.run(["bash", "--norc", "-c", lines], capture_output=True, text=True,
                         cwd=tmp_path, env=environment(), timeout=60)  # fmt: skip
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "fsdiffreg",
        "fast default accurate",  # bash itself has put "preset=" into the line
        "accurate",
        "--initial",
        "",
        "complete -o default -F _regtool_completion regtool",
    ]
