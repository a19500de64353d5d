"""Commands that write, what they leave when nothing goes wrong, and what must hold afterwards."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
for _folder in (TESTS, TESTS / "training", TESTS / "weights"):
    sys.path.insert(0, str(_folder))

from fault_server import before  # noqa: E402

ALL = ("--inverse", "--composite", "--moving-labels", "moving_labels.nii.gz")
QUICK = ("-m", "optimise", "--set", "iterations=2,1")
TEMPORARY = (".regtool-", ".tmp", ".incomplete")
"""Parts of the names of files that are not complete yet."""


@dataclass
class Scenario:
    """A command in a work folder whose outputs lie in ``out``.

    ``inputs`` is a folder to start from. ``command`` and ``again`` (the second run, after a fault)
    are given the work folder. ``setup`` is Python that runs first. ``check`` raises AssertionError
    for what must not be after a fault; ``same`` when a second run's outputs are not those of a
    run without a fault.
    """

    name: str
    inputs: Path
    command: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    check: Callable[[Path, Path], None]
    same: Callable[[Path, Path], None]
    setup: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    refused: tuple[int, ...] = (8,)
    """Exit codes of a disk that cannot be written."""


def final_files(out: Path) -> dict[str, bytes]:
    """Everything in a folder under a final name, by its path."""
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and not any(t in str(p.relative_to(out)) for t in TEMPORARY)
    }


def leftovers(out: Path) -> list[str]:
    """What is still there of files that were not complete."""
    return [
        p.relative_to(out).as_posix() for p in out.rglob("*") if any(t in p.name for t in TEMPORARY)
    ]


def _pair(folder: Path, seed: int = 0) -> None:
    """A 2-D pair of 32 by 28 pixels with labels, as files."""
    from regtool.imaging.image_write import write_image
    from regtool.spatial.grid import Grid

    grid = Grid((32, 28), (2.0, 2.0), (1.0, 0.0, 0.0, 1.0), (3.0, -4.0))
    y, x = np.meshgrid(np.arange(28), np.arange(32), indexing="ij")
    folder.mkdir(parents=True, exist_ok=True)
    for name, shift in (("fixed", 0.0), ("moving", 1.5 + 0.3 * seed)):
        blob = np.exp(-((y - 14) ** 2 + (x - 15 - shift) ** 2) / 40) * 100
        noise = np.random.default_rng(seed).random(blob.shape)
        write_image(folder / f"{name}.nii.gz", (blob + noise).astype(np.float32), grid)
        write_image(folder / f"{name}_labels.nii.gz", (blob > 40).astype(np.uint8), grid)


def _consistent(record: Path, prefix: str) -> None:
    """A record that is there is whole, and so is everything that it lists."""
    content = json.loads(record.read_text(encoding="utf-8"))
    assert content["kind"] == "registration"
    for entry in content["outputs"].values():
        file = record.parent / entry["file"]
        assert file.is_file(), f"{file.name} is listed and missing"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert digest == entry["sha256"], f"{file.name} is not the one of the record"


def _records(out: Path, reference: Path) -> None:
    """Every file under a final name is whole: as without a fault; records agree with files."""
    if not out.exists():
        return
    expected = final_files(reference)
    for name, data in final_files(out).items():
        if name.endswith("regtool.json"):
            _consistent(out / name, name.removesuffix("regtool.json"))
        elif name.endswith(".json"):
            json.loads(data)
        elif not name.endswith(".h5"):  # HDF5 notes when it was written
            assert data == expected[name], f"{name} is not whole"


def _same_records(out: Path, reference: Path) -> None:
    assert set(final_files(out)) == set(final_files(reference))
    _records(out, reference)


def register(inputs: Path) -> Scenario:
    """One pair."""
    _pair(inputs)
    command = ["register", *QUICK, "fixed.nii.gz", "moving.nii.gz", "-o", "out/r_", *ALL]

    def again(work: Path) -> list[str]:
        done = (work / "out" / "r_regtool.json").exists()  # it was only the way out that was hit
        return [*command, "--overwrite"] if done else command

    return Scenario("register", inputs, lambda _: command, again, _records, _same_records)


def over(inputs: Path, earlier: Path) -> Scenario:
    """One pair over an earlier result with other settings, whose files are in ``earlier``."""
    _pair(inputs)
    shutil.copytree(earlier, inputs / "out")
    old = final_files(earlier)
    command = ["register", "-m", "optimise", "--set", "iterations=1", "fixed.nii.gz",
               "moving.nii.gz", "-o", "out/r_", *ALL, "--overwrite"]  # fmt: skip

    def check(out: Path, reference: Path) -> None:
        if not out.exists():
            return
        new = final_files(reference)
        for name, data in final_files(out).items():
            if name.endswith("regtool.json"):
                _consistent(out / name, name.removesuffix("regtool.json"))
            elif not name.endswith(".h5"):
                assert data in (old.get(name), new[name]), f"{name} is neither old nor new"

    return Scenario("register --overwrite", inputs, lambda _: command, lambda _: command, check,
                    _same_records)  # fmt: skip


def cohort(inputs: Path) -> Scenario:
    """Three pairs of a table."""
    rows = ["fixed,moving,moving_labels,name"]
    for k in range(3):
        _pair(inputs / str(k), k)
        rows.append(f"{k}/fixed.nii.gz,{k}/moving.nii.gz,{k}/moving_labels.nii.gz,p{k}")
    (inputs / "t.csv").write_text("\n".join(rows) + "\n")
    command = ["register", *QUICK, "--pairs", "t.csv", "-o", "out"]
    return Scenario("cohort", inputs, lambda _: command, lambda _: command, _records,
                    _same_records, refused=(7, 8))  # fmt: skip


TOY = """
import training_toy
from regtool.plugins import discovery
discovery.load = lambda name: training_toy.METHOD
"""


def train(inputs: Path) -> Scenario:
    """Six steps of a toy, two validations, three checkpoints."""
    import training_toy

    training_toy.make_data(inputs / "data", pairs=3, val=1)
    steps = {"checkpoint_every": 2, "val_every": 3, "log_every": 2}
    command = ["train", "-m", "toy", "--data", "data/pairs.csv", "--steps", "6", "-o", "out",
               "--device", "cpu", "--threads", "1", "-q"]  # fmt: skip
    for key, value in steps.items():
        command += ["--set", f"{key}={value}"]

    def again(work: Path) -> list[str]:
        if (work / "out" / "settings.json").exists():
            return ["train", "--resume", "-o", "out", "--device", "cpu", "-q"]
        return command

    return Scenario("train", inputs, lambda _: command, again, _run_folder, _same_run,
                    before(f"sys.path.insert(0, {str(TESTS / 'training')!r})", TOY))  # fmt: skip


def _run_folder(out: Path, reference: Path) -> None:
    """Checkpoint, settings and weights can be read, where they are."""
    from regtool.engine.training.checkpoint import load_checkpoint, load_tensors
    from regtool.engine.training.settings import read_settings

    if (out / "checkpoint.safetensors").exists():
        load_checkpoint(out / "checkpoint.safetensors")
    if (out / "settings.json").exists():
        read_settings(out / "settings.json")
    for path in out.rglob("*.safetensors"):
        if not path.name.startswith("."):
            load_tensors(path)
    for path in out.rglob("config.json"):
        json.loads(path.read_text())


def checkpoint_step(out: Path) -> int:
    """The step that a run's checkpoint holds; -1 without one."""
    from regtool.engine.training.checkpoint import load_checkpoint

    path = out / "checkpoint.safetensors"
    return int(load_checkpoint(path)[1]["step"]) if path.exists() else -1


def _rows(folder: Path) -> list[dict[str, Any]]:
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def _same_run(out: Path, reference: Path) -> None:
    _run_folder(out, reference)
    assert _rows(out) == _rows(reference), "another log"
    for path in reference.rglob("*.safetensors"):
        name = path.relative_to(reference)
        if "checkpoint" not in path.name and "cache" not in name.parts:
            assert (out / name).read_bytes() == path.read_bytes(), f"other {name}"


PULL = """
import os
from pathlib import Path
sys.path.insert(0, str(Path("site").absolute()))
from huggingface_hub import constants
constants.HF_HUB_CACHE = str(Path("out/hub").absolute())
constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(
    constants.ENDPOINT, os.environ["HF_ENDPOINT"]
)
constants.ENDPOINT = os.environ["HF_ENDPOINT"]
constants.HF_HUB_OFFLINE = False
"""


def pull(inputs: Path, url: str, files: dict[str, bytes], commit: str) -> Scenario:
    """Weights from a Hub on this machine, into the cache and a folder."""
    from weights_toy import REPOSITORY, install_toy

    inputs.mkdir(parents=True)
    digest = hashlib.sha256(files["model.safetensors"]).hexdigest()
    install_toy(inputs / "site", digest, f', hub="{REPOSITORY}", revision="{commit}"')
    (inputs / "site" / "sitecustomize.py").unlink()
    command = ["weights", "pull", "toy-brain", "--to", "out/copies"]

    def check(out: Path, reference: Path) -> None:
        for path in out.rglob("*") if out.exists() else ():
            part = path.relative_to(out).parts
            hidden = any(p.startswith(".") or "incomplete" in p for p in part)
            if path.is_file() and not hidden and path.name in files:
                assert path.read_bytes() == files[path.name], f"{path.name} is not whole"
            if len(part) == 2 and part[0] == "copies" and not hidden:
                there = {p.name for p in path.iterdir()}
                assert {"config.json", "model.safetensors"} <= there, "half a folder of weights"

    def same(out: Path, reference: Path) -> None:
        check(out, reference)
        copies = {p.name for p in (out / "copies" / "toy-brain").iterdir()}
        assert {"config.json", "model.safetensors"} <= copies

    env = {"HF_ENDPOINT": url, "REGTOOL_LOAD_PLUGINS": "toy"}
    return Scenario("weights pull", inputs, lambda _: command, lambda _: command, check, same,
                    before(PULL), env, (4, 8))  # fmt: skip
