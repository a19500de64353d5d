"""``regtool methods`` and ``regtool plugins`` as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_distributions import Runner, Site

from regtool.cli import tables

HEAVY = ("torch", "numpy", "SimpleITK", "nibabel", "huggingface_hub")


@pytest.fixture
def mixed(site: Site) -> Site:
    """One sound method, one broken, one claimed twice."""
    site.add("sound")
    site.add("faulty", before="import not_there_at_all\n")
    site.add("twice", distribution="fake-left")
    site.add("twice", distribution="fake-right")
    return site


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_broken_plugins_cost_one_warning_line_each(mixed: Site, program: Runner) -> None:
    ran = program("methods", path=(mixed.folder,), REGTOOL_LOAD_PLUGINS="sound,faulty")
    assert ran.code == 0
    assert lines(ran.out)[1].split() == [
        "sound", "deformable", "registration", "2-D,", "3-D", "any", "-", "MIT",
    ]  # fmt: skip
    (warning,) = lines(ran.err)
    assert warning.startswith("regtool: warning: ")
    assert "'faulty' of fake-faulty 1.0" in warning
    assert "not_there_at_all" in warning


def test_a_sound_method_is_shown_in_silence(mixed: Site, program: Runner) -> None:
    ran = program("methods", "sound", path=(mixed.folder,))
    assert (ran.code, ran.err) == (0, "")
    assert "How often [at least once]." in ran.out
    assert "int, >= 1" in ran.out
    assert "fake-sound 1.0" in ran.out


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("faulty", 5, ["fake-faulty 1.0", "not_there_at_all"]),
        ("twice", 5, ["fake-left 1.0", "fake-right 1.0"]),
        ("soundd", 2, ["did you mean 'sound'"]),
    ],
)
def test_asking_for_what_does_not_work(
    mixed: Site, program: Runner, name: str, code: int, words: list[str]
) -> None:
    ran = program("methods", name, path=(mixed.folder,))
    assert ran.code == code
    assert ran.out == ""
    (line,) = lines(ran.err)
    assert line.startswith("regtool: error: ")
    assert all(word in line for word in words)


def test_debug_shows_the_plugins_own_traceback(mixed: Site, program: Runner) -> None:
    ran = program("methods", "faulty", "--debug", path=(mixed.folder,))
    assert ran.code == 5
    assert "ModuleNotFoundError" in ran.err
    assert "fake_faulty.py" in ran.err


def test_strict_mode_fails_the_listing(mixed: Site, program: Runner) -> None:
    for value, code in (("1", 5), ("0", 0), ("", 0)):
        ran = program("methods", path=(mixed.folder,), REGTOOL_STRICT_PLUGINS=value)
        assert ran.code == code, value


def test_no_method_installed(program: Runner) -> None:
    ran = program("methods", REGTOOL_LOAD_PLUGINS="")
    assert (ran.code, ran.err) == (0, "")
    assert program("methods", "any", REGTOOL_LOAD_PLUGINS="").code == 2


def test_json_is_all_that_stdout_carries(mixed: Site, program: Runner) -> None:
    mixed.add("chatty", before="print('{not json')\n")
    limit = {"REGTOOL_LOAD_PLUGINS": "sound,faulty,chatty"}
    data = json.loads(program("methods", "--json", path=(mixed.folder,), **limit).out)
    assert [method["name"] for method in data["methods"]] == ["chatty", "sound"]
    assert [method["name"] for method in data["broken"]] == ["faulty"]
    one = json.loads(program("methods", "chatty", "--json", path=(mixed.folder,), **limit).out)
    assert one["options"][0]["name"] == "rounds"
    assert one["distribution"] == {"name": "fake-chatty", "version": "1.0"}


def test_plugins_list_marks_the_broken_ones(mixed: Site, program: Runner) -> None:
    ran = program("plugins", "list", path=(mixed.folder,))
    assert ran.code == 0
    rows = {tuple(line.split()[:3]): line for line in lines(ran.out)}
    assert rows["sound", "method", "fake-sound"].endswith("ok")
    assert "not_there_at_all" in rows["faulty", "method", "fake-faulty"]
    assert "claimed by" in rows["twice", "method", "fake-left"]
    assert "claimed by" in rows["twice", "method", "fake-right"]
    data = json.loads(program("plugins", "list", "--json", path=(mixed.folder,)).out)
    errors = {entry["name"]: entry["error"] for entry in data}
    assert errors["sound"] is None
    assert "not_there_at_all" in errors["faulty"]


@pytest.mark.parametrize(
    "arguments", [("--help",), ("methods",), ("methods", "sound"), ("plugins", "list")]
)
def test_listing_imports_nothing_heavy(site: Site, arguments: tuple[str, ...]) -> None:
    site.add("sound")
    code = (
        "import sys\n"
        "from regtool.cli.app import main\n"
        f"sys.argv = ['regtool', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    path = os.pathsep.join(filter(None, sys.path))
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_table_folds_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    tables.print_table([("name", "a [bracketed] text that is longer than the line")], ("a", "b"))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 40
    assert "[bracketed]" in printed
    assert "\x1b" not in printed


def test_a_table_in_a_pipe_keeps_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_table([("x", "y" * 300), ("long name", "z")], ("a", "b"))
    assert len(capsys.readouterr().out.splitlines()) == 3
    tables.print_table([], ("a", "b"))
    assert capsys.readouterr().out == ""


def test_values_are_shown_as_they_are_typed() -> None:
    shown = [tables.cell(value) for value in (None, True, (0.5, "a", (1, False)), [2], "b", 3)]
    assert shown == ["none", "true", "0.5,a,1,false", "2", "b", "3"]


def test_a_new_plugin_is_written_whole(tmp_path: Path, program: Runner) -> None:
    parent = tmp_path / "with space" / "more"
    ran = program("plugins", "new", "my-method", "-o", str(parent))
    assert ran.code == 0, ran.err
    folder = parent / "regtool-my-method"
    assert ran.out.strip() == str(folder)
    assert [path.name for path in parent.iterdir()] == [folder.name]
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert {"pyproject.toml", "README.md", "tests/test_conformance.py"} < written
    package = {"plugin.py", "network.py", "loss.py", "recipe.py", "options.py", "__init__.py"}
    assert {f"regtool_my_method/{name}" for name in package} < written
    assert not any("@" in name or name.endswith(".template") for name in written)
    texts = "".join((folder / name).read_text() for name in written)
    assert "@NAME@" not in texts
    assert "@PACKAGE@" not in texts
    again = program("plugins", "new", "my-method", "-o", str(parent))
    assert again.code == 8
    assert "exists already" in again.err


@pytest.mark.parametrize("name", ["My-Method", "2d", "a_b", "-x", "x-", "a--b", "", "none", "é"])
def test_a_name_that_cannot_be_a_method_is_refused(
    tmp_path: Path, program: Runner, name: str
) -> None:
    ran = program("plugins", "new", "-o", str(tmp_path), "--", name)
    assert ran.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_exits_with_8(tmp_path: Path, program: Runner) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = program("plugins", "new", "my-method", "-o", str(tmp_path / "file"))
    assert ran.code == 8
    assert len(lines(ran.err)) == 1


@pytest.mark.parametrize("environment", [{}, {"REGTOOL_LOAD_PLUGINS": ""}])
def test_the_name_of_an_installed_method_is_refused(
    site: Site, tmp_path: Path, program: Runner, environment: dict[str, str]
) -> None:
    site.add("sound")
    target = tmp_path / "new"
    ran = program("plugins", "new", "sound", "-o", str(target), path=(site.folder,), **environment)
    assert ran.code == 2
    (line,) = lines(ran.err)
    assert "the name 'sound' is taken by an installed method, of" in line
    assert line.endswith("; choose another, such as 'my-sound'")
    assert ran.out == "" and not target.exists()


def test_the_name_of_an_installed_package_is_refused(tmp_path: Path, program: Runner) -> None:
    """``rigid`` and ``affine`` are of one package."""
    ran = program("plugins", "new", "linear", "-o", str(tmp_path))
    assert ran.code == 2
    assert "its package regtool_linear is installed already" in ran.err
    assert list(tmp_path.iterdir()) == []
