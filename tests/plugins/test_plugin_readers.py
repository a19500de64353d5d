"""Data readers of other distributions: found, guarded, checked, and their settings."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from fake_distributions import Runner, Site

from regtool.data.cases import PairCase
from regtool.data.readers import PLACES, READERS, open_data, settings_of
from regtool.errors import InputError, PluginError, RegtoolError, UsageError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the files that the fake reader names."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.nii.gz").touch()
    return folder


def names(pairs: list[PairCase]) -> list[str]:
    return [pair.name for pair in pairs]


def failure(spec: str, kind: type[RegtoolError]) -> str:
    """The one line that ``spec`` fails with."""
    with pytest.raises(RegtoolError) as caught:
        open_data(spec)
    assert type(caught.value) is kind, caught.value
    text = str(caught.value)
    assert text == " ".join(text.split()), "not one line"
    return text


def test_a_reader_lists_its_pairs(site: Site, place: Path) -> None:
    site.add_reader("clinic")
    pairs = open_data(f"clinic:{place}")
    assert names(pairs) == ["p0", "p1"]
    assert pairs[1].fixed.image == place / "1.nii.gz"
    assert names(open_data(f"clinic:{place}?count=3")) == ["p0", "p1", "p2"]


def test_only_the_reader_asked_for_is_imported(site: Site, place: Path) -> None:
    site.add_reader("clinic")
    other = site.add_reader("ward", before="raise RuntimeError('imported')\n")
    open_data(f"clinic:{place}")
    open_data("phantom:heart2d?n=1&size=16")
    assert other not in sys.modules


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("count=0", ["option 'count'", "int, >= 1", "'0'"]),
        ("count=many", ["option 'count'", "'many'"]),
        ("counts=2", ["unknown option 'counts' of reader 'clinic'", "'count'"]),
        ("count", ["write the setting 'count' as name=value"]),
        ("=2", ["write the setting '=2' as name=value"]),
    ],
)
def test_wrong_settings_are_wrong_usage(
    site: Site, place: Path, query: str, words: list[str]
) -> None:
    site.add_reader("clinic")
    text = failure(f"clinic:{place}?{query}", UsageError)
    assert text.startswith(f"--data clinic:{place}: ")
    assert all(word in text for word in words), text


def test_a_message_names_the_option_that_was_given(site: Site, place: Path) -> None:
    site.add_reader("clinic")
    for option in ("--data", "--pairs", "--val"):
        for spec in (f"clinic:{place}?counts=2", "phantom:heart2d?counts=2", "ixi:x?counts=2",
                     "breathing:phantom?counts=2", "phantom:x", "nothing"):  # fmt: skip
            with pytest.raises(UsageError) as caught:
                open_data(spec, option=option)
            assert str(caught.value).startswith(f"{option} {spec.partition('?')[0]}: ")


def test_a_reader_without_settings(site: Site, place: Path) -> None:
    body = "READER.update(read=lambda place, settings: [pair(place, 0)], settings=Options)\n"
    site.add_reader("clinic", body)
    assert names(open_data(f"clinic:{place}")) == ["p0"]
    text = failure(f"clinic:{place}?count=2", UsageError)
    assert "reader 'clinic' has none" in text


def test_a_missing_file_is_named_with_its_pair(site: Site, place: Path) -> None:
    site.add_reader("clinic")
    (place / "1.nii.gz").unlink()
    text = failure(f"clinic:{place}", InputError)
    assert str(place / "1.nii.gz") in text
    assert "'p1'" in text
    assert names(open_data(f"clinic:{place}", files=False)) == ["p0", "p1"]


@pytest.mark.parametrize(
    ("statement", "kind", "words"),
    [
        ("raise InputError('list.txt: empty')", InputError, ["list.txt: empty"]),
        ("open(place / 'absent.txt')", InputError, ["absent.txt", "No such file"]),
        ("{}['age']", PluginError, ["reader 'clinic' of fake-clinic 1.0", "KeyError: 'age'"]),
        ("raise SystemExit(3)", PluginError, ["reader 'clinic' of fake-clinic 1.0", "SystemExit"]),
        ("import no_such_module", PluginError, ["it needs the module 'no_such_module'"]),
        ("raise ValueError('two\\nlines')", PluginError, ["ValueError: two lines"]),
    ],
)
def test_whatever_a_reader_raises_is_one_line(
    site: Site, place: Path, statement: str, kind: type[RegtoolError], words: list[str]
) -> None:
    body = f"def broken(place, settings):\n    {statement}\n    yield\nREADER.update(read=broken)\n"
    site.add_reader("clinic", body)
    text = failure(f"clinic:{place}", kind)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("mistake", ["{}[place]", "json.loads('{')", "Path('a').relative_to('b')"])
def test_a_mistake_in_a_reader_is_told_with_its_line(site: Site, place: Path, mistake: str) -> None:
    body = f"import json\ndef broken(place, settings):\n    {mistake}\nREADER.update(read=broken)\n"
    module = site.add_reader("clinic", body)
    text = failure(f"clinic:{place}", PluginError)
    source = (site.folder / f"{module}.py").read_text()
    line = source[: source.index(mistake)].count("\n") + 1
    assert text.endswith(f"({module}.py, line {line}; --debug shows more)"), text


def test_a_syntax_error_is_told_with_its_file(site: Site, place: Path) -> None:
    module = site.add_reader("clinic", "def read(:\n")
    file = site.folder / f"{module}.py"
    line = file.read_text().splitlines().index("def read(:") + 1
    text = failure(f"clinic:{place}", PluginError)
    assert f"SyntaxError: invalid syntax ({file}, line {line})" in text


def test_an_interruption_and_lack_of_memory_are_not_the_reader_s_fault(
    site: Site, place: Path
) -> None:
    for error in (KeyboardInterrupt, MemoryError):
        name = error.__name__.lower()
        body = f"def end(*_):\n    raise {error.__name__}\nREADER.update(read=end)\n"
        site.add_reader(name, body)
        with pytest.raises(error):
            open_data(f"{name}:{place}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("None", "read returned a NoneType, not pairs"),
        ("['p0']", "pair 1 is a str, not a PairCase"),
        ("[pair(place, 0), pair(place, 1, name='P0')]", "two pairs have the name 'P0'"),
        ("[pair(place, 0, name='a/b')]", "its name cannot be part of a file name"),
        ("[pair(place, 0, name=7)]", "its name cannot be part of a file name"),
        ("[pair(place, 0, split='training')]", "its split is 'training'"),
        ("[pair(place, 0, subject='')]", "its subject is ''"),
        ("[pair(place, 0, fixed='0.nii.gz')]", "fixed is a str, not a Case"),
        ("[pair(place, 0, moving=Case('0.nii.gz'))]", "moving.image is a str, not a Path"),
        ("[pair(place, 0, fixed=Case(place, mask='m'))]", "fixed.mask is a str, not a Path"),
        ("[pair(place, 0, fixed=Case(place, frame=-1))]", "fixed.frame is -1"),
        ("[pair(place, 0, field='u.nii')]", "field is a str, not a Path"),
        (
            "[pair(place, 0, subject='s'), pair(place, 1, subject='s', split='val')]",
            "its subject 's' is val here and train before",
        ),
    ],
)
def test_pairs_that_break_the_contract_are_refused(
    site: Site, place: Path, answer: str, words: str
) -> None:
    site.add_reader("clinic", f"READER.update(read=lambda place, settings: {answer})\n")
    text = failure(f"clinic:{place}", PluginError)
    assert text.startswith("reader 'clinic' of fake-clinic 1.0: ")
    assert words in text


def test_no_pairs_at_all(site: Site, place: Path) -> None:
    site.add_reader("clinic", "READER.update(read=lambda place, settings: [])\n")
    assert "no pairs found" in failure(f"clinic:{place}", InputError)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("READER = read", "its entry point names a function, not a Reader"),
        ("READER.update(name='ward')", "it calls itself 'ward'"),
        ("READER.update(api=99)", "it needs version 99 of the reader contract"),
        ("READER.update(read='fake:read')", "read is a str, not a function"),
        ("READER.update(settings=dict)", "not a class derived from Options"),
        ("import no_such_module", "it needs the module 'no_such_module'"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_a_broken_description_is_one_line(site: Site, place: Path, change: str, words: str) -> None:
    site.add_reader("clinic", f"{change}\n")
    text = failure(f"clinic:{place}", PluginError)
    assert text.startswith("reader 'clinic' of fake-clinic 1.0: ")
    assert words in text


@pytest.mark.parametrize("name", ["Clinic", "my_data", "c"])
def test_a_name_that_no_reader_may_have(site: Site, place: Path, name: str) -> None:
    site.add_reader(name, distribution="fake-misnamed")
    assert "name" in failure(f"{name}:{place}", PluginError)


def test_stale_metadata_is_told_from_a_missing_dependency(site: Site, place: Path) -> None:
    site.add_reader("clinic", value="fake_moved_away:READER")
    assert "reinstall" in failure(f"clinic:{place}", PluginError)


def test_two_distributions_with_one_name(site: Site, place: Path) -> None:
    for side in ("left", "right"):
        site.add_reader("clinic", distribution=f"fake-{side}")
    text = failure(f"clinic:{place}", PluginError)
    assert "fake-left 1.0" in text and "fake-right 1.0" in text


def test_the_name_of_a_reader_of_regtool_is_not_to_be_had(
    site: Site, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = site.add_reader("pairs")
    text = failure(f"pairs:{place}", PluginError)
    assert "regtool's own" in text and "fake-pairs 1.0" in text
    assert module not in sys.modules
    monkeypatch.setenv("REGTOOL_LOAD_PLUGINS", "optimise")
    table = place / "pairs.csv"
    table.write_text("fixed,moving\n0.nii.gz,1.nii.gz\n")
    assert names(open_data(f"pairs:{table}")) == ["1_to_0"]


def test_what_the_limit_leaves_out_is_said(
    site: Site, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add_reader("clinic")
    monkeypatch.setenv("REGTOOL_LOAD_PLUGINS", "voxelmorph")
    assert "left out by REGTOOL_LOAD_PLUGINS" in failure(f"clinic:{place}", UsageError)
    for chosen in ("clinic", "fake-clinic"):
        monkeypatch.setenv("REGTOOL_LOAD_PLUGINS", chosen)
        assert names(open_data(f"clinic:{place}")) == ["p0", "p1"]


def test_an_unknown_reader_lists_those_of_plugins(site: Site) -> None:
    site.add_reader("clinic")
    text = failure("clinik:somewhere", UsageError)
    assert "clinic:…" in text and "acdc:…" in text
    assert "expected" in failure("clinic", UsageError)


def test_a_table_behind_a_reader_s_name_goes_to_the_reader(site: Site, place: Path) -> None:
    site.add_reader("clinic", "READER.update(read=lambda place, _: [pair(place.parent, 2)])\n")
    assert names(open_data(f"clinic:{place}/list.csv")) == ["p2"]


def test_the_place_may_begin_with_the_home_folder(
    site: Site, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(place.parent))
    site.add_reader("clinic")
    assert open_data("clinic:~/data")[0].fixed.image == place / "0.nii.gz"


def test_readers_that_come_with_regtool_are_there() -> None:
    import importlib

    for name, value in READERS.items():
        module, _, function = value.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_plugins_list_shows_readers(site: Site, program: Runner) -> None:
    site.add_reader("clinic")
    site.add_reader("faulty", before="import not_there_at_all\n")
    site.add_reader("acdc")
    listed = program("plugins", "list", path=(site.folder,))
    assert listed.code == 0, listed.err
    lines = {line.split()[0]: line for line in listed.out.splitlines() if " reader " in line}
    assert set(lines) == {"clinic", "faulty", "acdc"}
    assert lines["clinic"].split()[-2:] == ["fake_clinic:READER", "ok"]
    assert "not_there_at_all" in lines["faulty"]
    assert "regtool's own" in lines["acdc"]
    rows = json.loads(program("plugins", "list", "--json", path=(site.folder,)).out)
    kinds = {(row["name"], row["kind"]): row["error"] for row in rows}
    assert kinds["clinic", "reader"] is None
    assert kinds["optimise", "method"] is None


def test_one_reader_and_its_settings_are_shown(site: Site, program: Runner) -> None:
    site.add_reader("clinic")
    shown = program("plugins", "reader", "clinic", path=(site.folder,))
    assert shown.code == 0, shown.err
    assert shown.out.splitlines()[0] == "clinic:PLACE, of fake-clinic 1.0: A fake reader."
    assert shown.out.splitlines()[-1].split(maxsplit=4) == [
        "count", "int,", ">=", "1", "2        How many pairs.",
    ]  # fmt: skip
    data = json.loads(program("plugins", "reader", "clinic", "--json", path=(site.folder,)).out)
    assert data["distribution"] == {"name": "fake-clinic", "version": "1.0"}
    assert [setting["name"] for setting in data["settings"]] == ["count"]
    unknown = program("plugins", "reader", "clinik", path=(site.folder,))
    assert unknown.code == 2
    assert "clinic" in unknown.err and "acdc" in unknown.err


def test_a_reader_of_regtool_is_shown_as_well(program: Runner) -> None:
    shown = program("plugins", "reader", "camus")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("camus:FOLDER, of regtool ")
    assert {"view", "quality", "split"} <= {
        line.split()[0] for line in shown.out.splitlines() if line
    }
    data = json.loads(program("plugins", "reader", "phantom", "--json").out)
    assert data["distribution"]["name"] == "regtool"
    given = {s["name"]: s["default"] for s in data["settings"]}
    assert given == {"n": 8, "seed": 0, "size": None}


def test_every_setting_of_regtool_s_readers_is_explained() -> None:
    assert set(PLACES) == set(READERS)
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for reader in READERS:
        for name, setting in settings_of(reader).items():
            assert setting.help and setting.allowed, f"{reader}: {name}"
            assert re.search(rf"`{name}[`=]", page), f"docs/data.md: {reader}: {name}"


def test_the_defaults_that_are_shown_are_those_that_hold() -> None:
    from regtool.data.breathing import parse

    shown = {name: setting.shown_default for name, setting in settings_of("breathing").items()}
    given = [f"{name}={value}" for name, value in shown.items() if value is not None]
    assert parse(f"phantom?{'&'.join(given)}") == parse("phantom")
    left_out = {name for name, value in shown.items() if value is None}
    assert left_out == {n for n, value in vars(parse("phantom")[1]).items() if value is None}


def test_what_a_reader_prints_stays_off_standard_output(
    site: Site, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = (
        "def chatty(place, settings):\n    print('looking')\n    yield pair(place, 0)\n"
        "READER.update(read=chatty)\n"
    )
    site.add_reader("clinic", body)
    assert names(open_data(f"clinic:{place}")) == ["p0"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "looking" in printed.err


@pytest.mark.parametrize(
    ("statement", "code", "words"),
    [
        ("raise InputError(f'{place}: no list.txt')", 3, "no list.txt"),
        ("{}['age']", 5, "KeyError: 'age'"),
    ],
)
def test_exit_codes_of_a_broken_reader(
    site: Site, place: Path, program: Runner, statement: str, code: int, words: str
) -> None:
    site.add_reader("clinic", f"def bad(place, _):\n    {statement}\nREADER.update(read=bad)\n")
    out = place.parent / "out"
    arguments = ("register", "-m", "rigid", "--pairs", f"clinic:{place}", "-o", str(out))
    ran = program(*arguments, path=(site.folder,))
    assert ran.code == code, ran.err
    assert ran.out == ""
    (line,) = ran.err.strip().splitlines()
    assert words in line
    assert not out.exists()
