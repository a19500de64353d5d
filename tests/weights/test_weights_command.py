"""The weights commands against the real Hub client and a Hub on 127.0.0.1."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import Hub
from weights_toy import REPOSITORY, Shell, toy_config, write_files

TOKEN = {"HF_TOKEN": "hf_write"}


def test_list_path_verify_without_weights(shell: Shell, hub: Hub) -> None:
    listed = shell("list")
    assert listed.code == 0
    assert "toy-brain" in listed.out
    assert "no (regtool weights pull)" in listed.out
    [row] = json.loads(shell("list", "toy", "--json").out)
    assert (row["name"], row["ndim"], row["source"], row["path"]) == ("toy-brain", 2, None, None)
    absent = shell("path", "toy-brain")
    assert (absent.code, absent.out) == (4, "")
    assert "regtool weights pull toy-brain" in absent.error
    everything = shell("verify")
    assert everything.code == 0
    assert "not on this machine" in everything.out
    assert shell("verify", "toy-brain").code == 4
    assert hub.requests == []


def test_pull_once_then_no_request(shell: Shell, hub: Hub) -> None:
    cold = shell("pull", "toy-brain")
    assert cold.code == 0, cold.err
    assert cold.err == ""
    folder = Path(cold.out.strip())
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert hub.methods() == ["HEAD", "HEAD", "GET", "HEAD", "GET"]
    hub.requests.clear()
    assert shell("pull", "toy-brain").out == cold.out
    assert shell("path", "toy-brain", HF_HUB_OFFLINE="1").out == cold.out
    assert "Hub cache" in shell("list").out
    sound = shell("verify", "toy-brain", "--json")
    assert sound.code == 0, sound.err
    [verdict] = json.loads(sound.out)
    assert verdict["pinned"] and verdict["problem"] is None and verdict["path"] == str(folder)
    assert hub.requests == []


def test_cold_and_offline_is_fast(shell: Shell, hub: Hub, dead_url: str) -> None:
    for changes in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": dead_url}):
        missed = shell("pull", "toy-brain", **changes)
        assert missed.code == 4
        assert missed.seconds < 15  # the client alone takes 23
        assert "regtool weights pull toy-brain --to FOLDER" in missed.error
    assert hub.requests == []


def test_pull_of_a_reference_without_internet_says_what_to_do(shell: Shell, dead_url: str) -> None:
    spec = f"hub:{REPOSITORY}@main"
    missed = shell("pull", spec, HF_ENDPOINT=dead_url)
    assert missed.code == 4
    assert f"{spec}: the Hub cannot be reached (127.0.0.1:" in missed.error
    assert f"on a machine with internet run 'regtool weights pull {spec} --to" in missed.error


def test_pull_to_a_folder_for_another_machine(shell: Shell, hub: Hub, dead_url: str) -> None:
    store = shell.folder / "to carry"
    pulled = shell("pull", "toy-brain", "--to", str(store), "--json")
    assert pulled.code == 0, pulled.err
    [record] = json.loads(pulled.out)
    assert record["folder"] == str(store / "toy-brain")
    assert [p.name for p in store.iterdir()] == ["toy-brain"]
    assert shell("pull", "toy-brain", "--to", str(store)).code == 0
    other = {
        "HF_HOME": str(shell.folder / "elsewhere"),
        "HF_ENDPOINT": dead_url,
        "REGTOOL_WEIGHTS_DIR": str(store),
    }
    assert shell("path", "toy-brain", **other).out.strip() == str(store / "toy-brain")
    assert "sound (directory, matches its pin)" in shell("verify", **other).out
    (store / "toy-brain" / "model.safetensors").write_bytes(b"other")
    assert shell("pull", "toy-brain", "--to", str(store)).code == 8


def test_damaged_cache_is_reported_then_replaced(shell: Shell) -> None:
    folder = Path(shell("pull", "toy-brain").out.strip())
    blob = (folder / "model.safetensors").resolve()
    whole = blob.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:50]):
        blob.write_bytes(damaged)
        bad = shell("verify", "toy-brain")
        assert bad.code == 4
        assert str(folder) in bad.error
        assert "regtool weights pull toy-brain" in bad.error
        assert "failed" in bad.out
        assert shell("pull", "toy-brain", HF_HUB_OFFLINE="1").code == 4
        assert shell("pull", "toy-brain").code == 0
        assert (folder / "model.safetensors").read_bytes() == whole
    # a cache made by hand has plain files, which the client alone would never replace
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(whole[:50])
    assert shell("pull", "toy-brain").code == 0
    assert (folder / "model.safetensors").read_bytes() == whole


def test_four_pulls_at_once(shell: Shell) -> None:
    processes = [shell.start("pull", "toy-brain") for _ in range(4)]
    finished = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert {code for _, _, code in finished} == {0}, finished
    assert len({out for out, _, _ in finished}) == 1
    assert shell("verify", "toy-brain").code == 0
    assert not list(shell.cache.rglob("*.incomplete"))


def test_four_copies_at_once(shell: Shell) -> None:
    arguments = ("pull", "toy-brain", "--to", "store")
    processes = [shell.start(*arguments) for _ in range(4)]
    finished = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert {code for _, _, code in finished} == {0}, finished
    assert [p.name for p in (shell.folder / "store").iterdir()] == ["toy-brain"]


def test_pull_of_a_branch_warns(shell: Shell, hub: Hub) -> None:
    pulled = shell("pull", f"hub:{REPOSITORY}@main", "--json")
    assert pulled.code == 0, pulled.err
    [record] = json.loads(pulled.out)
    assert record["revision"] == hub.branches[REPOSITORY, "main"]
    pinned = shell("pull", f"hub:{REPOSITORY}@{record['revision']}")
    assert (pinned.code, pinned.err) == (0, "")
    assert shell("pull", "hub:nonsense").code == 2
    assert shell("pull", "hub:some/thing").code == 4


def test_unknown_names(shell: Shell) -> None:
    unknown = shell("pull", "something")
    assert unknown.code == 4
    assert "there are: toy-brain" in unknown.error
    assert shell("list", "nonsense").code == 2


def test_unpublished_weights(unpublished_shell: Shell, toy_folder: Path, hub: Hub) -> None:
    shell = unpublished_shell
    assert "no (not published)" in shell("list").out
    missed = shell("pull", "toy-brain")
    assert missed.code == 4
    assert "not published on the Hub" in missed.error
    given = shell("verify", str(toy_folder))
    assert given.code == 0, given.err
    assert "sound (path, not pinned)" in given.out
    assert hub.requests == []


def test_verify_builds_the_network(
    shell: Shell, tmp_path: Path, toy_files: dict[str, bytes]
) -> None:
    wider = toy_files | {"config.json": json.dumps(toy_config(network={"features": 5})).encode()}
    bad = shell("verify", str(write_files(tmp_path / "wider", wider)))
    assert bad.code == 4
    assert "'first.weight' is 4x2x3x3, the network has 5x2x3x3" in bad.error
    wrong = toy_files | {"config.json": json.dumps(toy_config(network={"depth": 5})).encode()}
    bad = shell("verify", str(write_files(tmp_path / "wrong", wrong)))
    assert bad.code == 4
    assert "cannot build the network" in bad.error
    alien = toy_files | {"config.json": json.dumps(toy_config(method="alien")).encode()}
    bad = shell("verify", str(write_files(tmp_path / "alien", alien)))
    assert bad.code == 4
    assert "unknown method 'alien'" in bad.error
    assert shell("verify", "no/where").code == 4


def test_push_then_pull_and_pin(
    unpublished_shell: Shell, hub: Hub, toy_folder: Path, toy_sha256: str
) -> None:
    shell = unpublished_shell
    hub.tokens.add("hf_write")
    (shell.plugin.parent / "pyproject.toml").write_text("")
    pushed = shell("push", str(toy_folder), "lab/toy-brain", **TOKEN)
    assert pushed.code == 0, pushed.err
    commit = hub.branches["lab/toy-brain", "main"]
    assert pushed.out.splitlines() == [
        'hub="lab/toy-brain",',
        f'revision="{commit}",',
        f'sha256="{toy_sha256}",',
    ]
    assert "pin written into" in pushed.err
    files = hub.repositories["lab/toy-brain"][commit]
    assert files == {p.name: p.read_bytes() for p in toy_folder.iterdir()}
    # the description now carries the pin, so that anybody can pull by name
    pulled = shell("pull", "toy-brain", "--json")
    assert pulled.code == 0, pulled.err
    [record] = json.loads(pulled.out)
    assert (record["hub"], record["revision"], record["pinned"]) == ("lab/toy-brain", commit, True)
    # once more, to an existing repository, without touching the description
    before = (shell.plugin / "plugin.py").read_text()
    (toy_folder / "README.md").write_text("---\nlicense: mit\n---\n# Changed\n")
    again = shell(
        "push", str(toy_folder), "lab/toy-brain", "--no-write-pin", "--json", "--private", **TOKEN
    )
    assert again.code == 0, again.err
    assert json.loads(again.out)["revision"] != commit
    assert (shell.plugin / "plugin.py").read_text() == before


def test_push_by_name_outside_a_checkout(
    unpublished_shell: Shell, hub: Hub, toy_folder: Path
) -> None:
    hub.tokens.add("hf_write")
    shutil.copytree(toy_folder, unpublished_shell.plugin / "weights" / "toy-brain")
    pushed = unpublished_shell("push", "toy-brain", "lab/toy-brain", **TOKEN)
    assert pushed.code == 0, pushed.err
    assert "put these into WeightsRef(name='toy-brain', ...)" in pushed.err


def test_push_is_refused_clearly(shell: Shell, hub: Hub, toy_folder: Path, dead_url: str) -> None:
    denied = shell("push", str(toy_folder), "lab/toy")
    assert denied.code == 4
    assert "not authorised" in denied.error
    dead = shell("push", str(toy_folder), "lab/toy", HF_ENDPOINT=dead_url, **TOKEN)
    assert dead.code == 4
    assert "lab/toy: cannot publish, the Hub cannot be reached (127.0.0.1:" in dead.error
    assert f"push from a machine with internet: copy {toy_folder} there" in dead.error
    offline = shell("push", str(toy_folder), "lab/toy", HF_HUB_OFFLINE="1", **TOKEN)
    assert offline.code == 4
    for wrong in ("toy", "lab/toy@main", "hub:lab/toy"):
        refused = shell("push", str(toy_folder), wrong, **TOKEN)
        assert refused.code == 2
        assert f"{wrong}: no repository on the Hub; write ORG/REPO" in refused.error
    (toy_folder / "README.md").unlink()
    bare = shell("push", str(toy_folder), "lab/toy", **TOKEN)
    assert bare.code == 4
    assert "README.md: missing" in bare.error
    assert "lab/toy" not in hub.repositories


@pytest.mark.parametrize(
    "module", ["regtool.cli.weights", "regtool.weights", "regtool.weights.stock"]
)
def test_nothing_heavy_is_imported(module: str, shell: Shell) -> None:
    heavy = "{'torch', 'numpy', 'safetensors', 'huggingface_hub', 'SimpleITK', 'nibabel'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=shell.environment, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[]", answer.stderr
