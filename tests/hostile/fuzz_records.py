"""Targets: the records of registrations, everywhere one is read."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from random import Random
from typing import Any

from fuzz_mutation import damaged, tree
from fuzz_seeds import METHOD, Seeds
from fuzz_target import Target

from regtool.data.cases import Case, PairCase
from regtool.engine.apply import apply
from regtool.engine.chain import read_chain
from regtool.engine.cohort.plan import plan
from regtool.engine.evaluate.pair import evaluate_record
from regtool.engine.evaluate.settings import Settings
from regtool.engine.jacobian import jacobian
from regtool.engine.repeat.compare import compare
from regtool.engine.repeat.rerun import _unchanged as unchanged
from regtool.engine.repeat.rerun import requested
from regtool.engine.request import Request, read_inputs
from regtool.engine.results import Plan
from regtool.engine.training.field_files import RecordFields
from regtool.engine.training.field_files import _chain as read_fields
from regtool.prepare.preparation import Preparation
from regtool.record import read_record
from regtool.report.cases import case_of
from regtool.report.cohort import cohort_report
from regtool.report.files import cohort_rows, pair_view_from

OUTPUTS = ("Warped.nii.gz", "1Warp.nii.gz", "0GenericAffine.mat", "1InverseWarp.nii.gz",
           "InverseWarped.nii.gz", "Composite.h5", "regtool.json")  # fmt: skip
BESIDE = ("fixed.nii.gz", "moving.nii.gz", *(f"pair_{name}" for name in OUTPUTS))
FEW = Settings(metrics=("ncc", "folds", "seconds"))


def _record(rng: Random, seeds: Seeds) -> bytes:
    record = seeds.record()
    if rng.random() < 0.4:  # files beside the record, so that more of it is used
        for role in ("fixed", "moving"):
            record[role]["path"] = f"{role}.nii.gz"
    return tree(rng, record)


def _read(path: Path, data: bytes) -> None:
    record = path.replace(path.with_name("pair_again_regtool.json"))
    _WAYS[zlib.crc32(data) % len(_WAYS)](record)


def _map(record: Path) -> None:
    jacobian(record, output="out/map.nii.gz", overwrite=True, threads=1)


def _apply(record: Path) -> None:
    apply("moving.nii.gz", [str(record)], output="out/a.nii.gz", overwrite=True, device="cpu")


def _back(record: Path) -> None:
    apply("fixed.nii.gz", [str(record)], output="out/b.nii.gz", inverse=True, overwrite=True,
          device="cpu")  # fmt: skip


def _chains(record: Path) -> None:
    read_chain([str(record)])
    read_chain(["pair_1Warp.nii.gz"])


def _evaluate(record: Path) -> None:
    json.dumps(evaluate_record(record, settings=FEW))


def _compare(record: Path) -> None:
    list(compare(record, "pair_regtool.json").facts)
    compare("pair_regtool.json", record)


def _rerun(record: Path) -> None:
    content = read_record(record)
    request = requested(record, content)
    for role in ("fixed", "moving"):
        unchanged(record, content, role, Path(getattr(request, role)))
    read_inputs(request)
    request.asked()


def _fields(record: Path) -> None:
    """Training's fields from a folder of records."""
    folder = Path("out/fields")
    folder.mkdir(parents=True, exist_ok=True)
    record = record.replace(folder / "p_regtool.json")
    for name in OUTPUTS[:-1]:
        if not (folder / f"pair_{name}").exists():
            shutil.copyfile(f"pair_{name}", folder / f"pair_{name}")
    source = RecordFields(folder, (), Preparation(spacing=(None, None), size=(None, None)), None, 0)
    json.dumps(source.facts)
    for path in source.records.values():
        read_fields(path)


def _overwrite(record: Path) -> None:
    """A new registration over one whose record somebody has written."""
    folder = Path("out/over")
    folder.mkdir(parents=True, exist_ok=True)
    record.replace(folder / "regtool.json")
    request = Request("fixed.nii.gz", "moving.nii.gz", METHOD, f"{folder}/", overwrite=True)
    with Plan(request, read_inputs(request)).open() as outputs:
        outputs.text("Warped.nii.gz", "new")


def _cohort(record: Path) -> None:
    folder = Path("out/cohort")
    folder.mkdir(parents=True, exist_ok=True)
    record.replace(folder / "p_regtool.json")
    pair = PairCase("p", Case(Path("fixed.nii.gz")), Case(Path("moving.nii.gz")), "test", "p")
    plan([pair], Request("", "", METHOD), folder)


def _pages(record: Path) -> None:
    folder = Path("out/pages")
    folder.mkdir(parents=True, exist_ok=True)
    record.replace(folder / "p_regtool.json")
    rows = list(cohort_rows(folder))
    for row in rows:
        case_of(row)
    cohort_report(rows, folder / "page.html", overwrite=True)


def _view(record: Path) -> None:
    pair_view_from(record)


_WAYS: tuple[Any, ...] = (
    _map, _apply, _back, _chains, _evaluate, _compare, _rerun, _fields, _overwrite, _cohort, _pages,
    _view,
)  # fmt: skip


def _output(rng: Random, seeds: Seeds) -> bytes:
    """An output of a registration, after its role in a line."""
    role = rng.choice((*OUTPUTS[:5], "regtool.json"))
    return role.encode() + b"\n" + damaged(rng, seeds.bytes[f"pair_{role}"])


def _read_output(path: Path, data: bytes) -> None:
    """``regtool diff`` and ``apply`` where somebody has changed what a record lists."""
    role, _, content = data.partition(b"\n")
    name = role.decode("latin-1")
    if name not in OUTPUTS:
        return
    folder = Path("out/other")
    folder.mkdir(parents=True, exist_ok=True)
    for other in OUTPUTS:
        if not (folder / f"pair_{other}").exists():
            shutil.copyfile(f"pair_{other}", folder / f"pair_{other}")
    changed = folder / f"pair_{name}"
    changed.write_bytes(content)
    try:
        list(compare("pair_regtool.json", folder / "pair_regtool.json").files)
        if zlib.crc32(data) % 4 == 0:
            _apply(folder / "pair_regtool.json")
    finally:
        changed.unlink(missing_ok=True)


TARGETS = (
    Target("record", _record, _read, "in.json", 4, BESIDE),
    Target("outputs of a record", _output, _read_output, "in.out", 3, BESIDE),
)
