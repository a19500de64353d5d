"""The program as a whole: help, version, terminals, start-up, unexpected errors."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import typer
from cli_cases import QUICK, Program
from warm_cli import environment, script

from regtool.cli.app import create

HEAVY = ("torch", "numpy", "SimpleITK", "nibabel", "huggingface_hub", "accelerate", "scipy")
COMMANDS = ("register", "apply", "jacobian", "train", "methods", "weights", "plugins", "demo")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["register", "--help"],
        ["apply", "-h"],
        ["methods"],
        ["methods", "voxelmorph"],
        ["--version"],
    ],
)
def test_light_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        "from regtool.cli.app import main\n"
        f"sys.argv = ['regtool', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "9"}, None)],
)
def test_waiting_threads_sleep_unless_somebody_says_otherwise(
    given: dict[str, str], expected: str | None, tmp_path: Path
) -> None:
    code = (
        "import os, sys\n"
        "from regtool.cli.app import main\n"
        "sys.argv = ['regtool', '--version']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(os.environ.get('OMP_WAIT_POLICY'), file=sys.stderr)\n"
    )
    unset = {k: v for k, v in environment().items() if not k.startswith(("OMP_WAIT", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env={**unset, **given},
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == str(expected)


def test_register_does_not_import_the_compiler(tiny: dict[str, Path], tmp_path: Path) -> None:
    """torch's compiler takes a second to import, and its optimisers import it."""
    unwanted = (
        "torch._dynamo",
        "sympy",
        "scipy.ndimage",
        "huggingface_hub",
        "accelerate",
        "matplotlib",
    )
    code = (
        "import sys\n"
        "from regtool.cli.app import main\n"
        f"sys.argv = ['regtool', 'register', *{QUICK!r}, 'fixed.nii.gz', 'moving.nii.gz', '-q']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print([m for m in {unwanted!r} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=environment(),
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


def test_version_and_usage(fresh: Program) -> None:
    from regtool import __version__

    assert fresh("--version").ok().out == f"regtool {__version__}\n"
    ran = fresh()
    assert ran.code == 2
    assert all(command in ran.out + ran.err for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_narrow_terminal(command: str, regtool: Program) -> None:
    ran = regtool(command, "--help", env={"COLUMNS": "40", "TERMINAL_WIDTH": "40"}).ok()
    assert ran.err == ""
    assert "\x1b" not in ran.out


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_help_has_words_for_values_and_no_python_types(command: str, regtool: Program) -> None:
    out = regtool(command, "--help").ok().out
    assert "list[" not in out and not any(f"<{letter}" in out for letter in ascii_lowercase)
    assert "--device auto|cpu|cuda[:N]" in out and "--threads N" in out


def test_no_summary_is_cut(regtool: Program) -> None:
    wide = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}
    for group in ((), ("weights",), ("plugins",)):
        shown = regtool(*group, "--help", env=wide).ok().out
        summaries = shown.partition("Commands:\n")[2].splitlines()
        assert summaries and not [line for line in summaries if line.endswith("...")]
        assert all(line.startswith("  ") and line[2] != " " for line in summaries), "one line each"


def leaves(command: Any, name: str = "") -> dict[str, Any]:
    """Every command without subcommands, by the words that call it."""
    if not hasattr(command, "commands"):
        return {name: command}
    inner = command.commands.items()
    return {k: v for word, one in inner for k, v in leaves(one, f"{name} {word}".strip()).items()}


def test_every_command_takes_the_common_options() -> None:
    found = leaves(typer.main.get_command(create()))
    assert {"register", "weights list", "weights push", "plugins reader", "plugins new"} <= {*found}
    common = {"--verbose", "--quiet", "--debug", "--log-file", "--json"}
    lack = {name: common - {option for p in command.params for option in p.opts}
            for name, command in found.items()}  # fmt: skip
    assert not any(lack.values()), lack


def test_options_before_a_subcommand_count_as_after_it(regtool: Program, tmp_path: Path) -> None:
    for number, args in enumerate((("plugins", "-q", "new"), ("plugins", "new", "-q"),
                                   ("plugins", "--log-file", "log", "new"))):  # fmt: skip
        ran = regtool(*args, f"m{number}", "--json").ok()
        assert json.loads(ran.out) == {"name": f"m{number}", "folder": f"regtool-m{number}"}
        assert ("pip install" in ran.err) == ("-q" not in args)
    assert "pip install" in (tmp_path / "log").read_text()


def test_bracketed_text_is_visible(regtool: Program) -> None:
    assert "[affine.mat,1]" in regtool("apply", "--help").ok().out
    ran = regtool("apply", "x.nii", "-t", "[a.mat,b]")
    assert "[a.mat,b]" in ran.err or "x.nii" in ran.err


PAGES = [
    "apply", "jacobian", "rerun", "diff", "demo", "methods", "weights list", "weights path",
    "weights verify", "weights pull", "weights push", "plugins list", "plugins reader",
    "plugins new",
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_help_names_values_and_not_their_types(page: str, regtool: Program) -> None:
    told = regtool(*page.split(), "--help").ok().out
    for kind in ("<str>", "<path>", "<dir>", "<int", "<float", "list[", "...}", "...]"):
        assert kind not in told, told
    usage = told.partition("[OPTIONS]")[2].splitlines()[0]
    assert usage == usage.upper()


def test_usage_errors(regtool: Program) -> None:
    for args in (("regster",), ("register",), ("register", "one"), ("--nonsense",)):
        ran = regtool(*args)
        assert ran.code == 2 and ran.out == ""
        assert "Traceback" not in ran.err and "╭" not in ran.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["apply", "x.nii", "-n", "labels"], "'labels' is not one of"),
        (["apply", "x.nii", "-n", "NearestNeighbor"], "'bspline'. Did you mean nearest? see "),
        (["apply", "x.nii", "-n", "GenericLabel[Linear]"], ". Did you mean label? see "),
        (["apply", "x.nii", "-n", "BSpline[3]"], ". Did you mean bspline? see "),
        (["apply", "x.nii", "-n", "Linear"], ". Did you mean linear? see "),
        (["apply", "-i", "x.nii"], "option: -i: the image is given without an option; see "),
        (["apply", "x.nii", "-d", "3"], "option: -d: the files say their dimension; see "),
        (["apply", "x", "-t", "w.nii", "a.mat"], "(a.mat): one image at a time, and -t before "),
        (["apply", "x", "-t", "[a.mat,", "1]"], "(1]): write [affine.mat,1] without a space; "),
        (["jacobian", "3", "w.nii", "j.nii"], "j.nii): one record or field alone; -o names "),
        (["register", "--refin", "a", "b"], "option: --refin. Did you mean "),
        (["regster"], "Did you mean 'register'? see regtool --help"),
        (["demo", "--seed", "x"], "'--seed'"),
        (["plugins", "new"], "missing argument"),
        (["weights", "lst"], "see regtool weights --help"),
        (["apply", "x.nii", "-t"], "requires an argument; see regtool apply --help"),
        (
            ["rerun", "a.json", "b.json", "c.json"],
            "argument(s) (b.json c.json); see regtool rerun",
        ),
        (["register", "--set", "preset", "fast", "a", "b"], "--set preset: write it as NAME=VALUE"),
        (["register", "a", "b", "--set=n=1", "--set", "k", "v"], "--set k: write it as NAME=VALUE"),
        (["register", "a", "b", "c", "--set", "k=v"], "unexpected extra argument(s) (c)"),
        (["train", "-m", "vtn", "-o", "d", "--set", "lr", "1"], "--set lr: write it as KEY=VALUE"),
    ],
)
def test_a_usage_error_is_one_line(args: list[str], says: str, regtool: Program) -> None:
    ran = regtool(*args)
    assert ran.code == 2 and ran.out == ""
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("regtool: error: ") and ran.err.endswith(" --help\n")
    assert says in ran.err and "Value error" not in ran.err


@pytest.mark.parametrize(("typed", "named"), [(["--threads", "0"], False), ([], True)])
def test_a_variable_is_blamed_only_for_its_own_value(
    typed: list[str], named: bool, regtool: Program
) -> None:
    ran = regtool("register", "a", "b", *typed, env={"REGTOOL_THREADS": "0"})
    assert ran.code == 2 and "'--threads'" in ran.err
    assert ("REGTOOL_THREADS" in ran.err) == named


def test_debug_shows_the_traceback(regtool: Program) -> None:
    quiet = regtool("jacobian", "none.nii.gz")
    loud = regtool("jacobian", "none.nii.gz", "--debug")
    assert quiet.code == loud.code == 3
    assert "Traceback" not in quiet.err and "Traceback" in loud.err


def raising(error: str) -> str:
    """Python that makes the engine of ``jacobian`` raise."""
    return (
        "import regtool.engine.jacobian as engine\n"
        f"def broken(*args, **options): raise {error}\n"
        "engine.jacobian = broken\n"
    )


def test_a_bug_is_one_line_and_exit_1(regtool: Program) -> None:
    bug = raising("RuntimeError('first\\nsecond')")
    ran = regtool("jacobian", "x.nii", before=bug)
    assert ran.code == 1 and ran.out == ""
    assert ran.err.startswith("regtool: error: unexpected RuntimeError: first second (a bug; ")
    assert len(ran.err.splitlines()) == 1
    ran = regtool("jacobian", "x.nii", "--debug", before=bug)
    assert ran.code == 1 and "Traceback" in ran.err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        ("MemoryError()", 6, "not enough memory"),
        ("RuntimeError('DefaultCPUAllocator: no')", 6, "not enough memory"),
        ("OSError(28, 'No space left on device', 'x.nii')", 8, "x.nii: No space left on device"),
        ("OSError(12, 'Cannot allocate memory')", 6, "not enough memory"),
    ],
)
def test_errors_of_the_system(error: str, code: int, says: str, regtool: Program) -> None:
    ran = regtool("jacobian", "x.nii", before=raising(error))
    assert ran.code == code and says in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["methods", "--json"], 0),  # more than a buffer holds
        (["--version"], 0),  # less
        (["weights", "verify", "bad"], 4),  # prints a table, then fails
    ],
)
def test_reader_that_goes_away(args: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{}")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [str(script()), *args], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=environment({"PYTHONUNBUFFERED": ""}),
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == (code != 0) and "Broken" not in done.stderr


def test_no_reader_of_anything(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([str(script()), "jacobian", "none.nii"], stdout=writer, stderr=writer,
                          cwd=tmp_path, env=environment())  # fmt: skip
    os.close(writer)
    assert done.returncode == 3


def test_another_broken_pipe_is_an_error(regtool: Program) -> None:
    ran = regtool("jacobian", "x.nii", before=raising("BrokenPipeError(32, 'Broken pipe', 'tool')"))
    assert ran.code == 8 and ran.err == "regtool: error: tool: Broken pipe\n"


def on_a_terminal(args: list[str], cwd: Path, env: dict[str, str]) -> str:
    """Everything a command prints when stdout and stderr are a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [str(script()), *args], cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL,
        stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    text = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(leader)
    assert process.wait() == 0
    return text.decode()


def test_terminal(tiny: dict[str, Path], tmp_path: Path) -> None:
    """A progress bar for people; no colour for those who do not want it."""
    args = ["register", *QUICK, str(tiny["fixed"]), str(tiny["moving"]), "-o"]
    shown = on_a_terminal([*args, "a_"], tmp_path, {"COLUMNS": "40", "TERM": "xterm-256color"})
    assert "register" in shown and "wrote a_regtool.json" in shown
    plain = on_a_terminal([*args, "b_"], tmp_path, {"NO_COLOR": "1", "TERM": "xterm-256color"})
    assert "\x1b[3" not in plain and "\x1b[1;3" not in plain, "no colours"
    listed = on_a_terminal(["methods"], tmp_path, {"NO_COLOR": "1", "COLUMNS": "40"})
    assert "optimise" in listed and "\x1b" not in listed
