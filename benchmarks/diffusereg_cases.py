"""What the scripts ``diffusereg_*.py`` share: pairs prepared once, sampled often, and measured.

A run is one registration: ``register``'s own preparation and sampling, without its files. With
``--keep FILE`` every run is a line of that file, and what is there is not computed again; keep
another file after a change to the code. Seconds are those of looking at the images and sampling,
by the wall clock and by the processor (all threads), which other work on the machine lengthens
less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from acdc import REGIONS
from numpy.typing import NDArray

from regtool.data.cases import Case as ImageCase
from regtool.data.cases import PairCase, only
from regtool.data.readers import open_data
from regtool.engine.device import limited_threads
from regtool.engine.measure import determinant
from regtool.engine.registrar import Registrar, load_registrar, method_options
from regtool.engine.request import Request, Source
from regtool.engine.task import open_task, prepare
from regtool.imaging.resample import resample
from regtool.metrics.dice import dice, dice_groups
from regtool.plugins.exchange import Prediction
from regtool.plugins.options import split_setting

LABELS = {"RV": 1, "Myo": 2, "LV": 3}
Row = dict[str, Any]
Two = tuple[Source, Source]
Field = NDArray[np.float32]
More = Callable[[Field, Prediction], Row]


def parser(doc: str) -> argparse.ArgumentParser:
    """The arguments that all of these scripts have."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("folder", type=Path, help="ACDC")
    made.add_argument("method", help="diffusereg@WEIGHTS, or diffusereg with its own")
    made.add_argument("--split", default="val")
    made.add_argument("--limit", type=int, help="so many pairs only")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    made.add_argument("--device", default="auto")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--json", type=Path, help="every number")
    return made


def sampling_parser(doc: str) -> argparse.ArgumentParser:
    """These, and those of scripts that sample in their own process."""
    made = parser(doc)
    made.add_argument("--precision", default="fp32")
    made.add_argument("--threads", type=int)
    made.add_argument("--keep", type=Path, help="file of runs that are done")
    return made


def pairs_of(given: argparse.Namespace) -> list[PairCase]:
    """The pairs, ED moving and ES fixed."""
    found = only(open_data(f"acdc:{given.folder}"), given.split)[: given.limit]
    if not found:
        sys.exit(f"{given.folder}: no pairs in the split {given.split!r}")
    return found


def labels_of(case: ImageCase) -> Path:
    """The label map of an image, without which there is nothing to measure."""
    if case.labels is None:
        sys.exit(f"{case.image}: has no labels")
    return case.labels


class Case:
    """A pair on the network's grid, and the figures of an answer on the fixed image's own."""

    def __init__(self, name: str, images: Two, labels: Two, registrar: Registrar) -> None:
        """``images`` and ``labels``: of the fixed and of the moving image."""
        self.name = name
        request = Request(
            images[0],
            images[1],
            registrar.method.name,
            fixed_labels=labels[0],
            moving_labels=labels[1],
        )
        task = open_task(request)
        self.inputs, self.prepared = task.inputs, prepare(task, registrar)
        self.grid = self.inputs.fixed.grid
        self.labels = self._labels([])

    @classmethod
    def of(cls, pair: PairCase, registrar: Registrar) -> Case:
        """A pair of a reader, with its labels."""
        images = pair.fixed.image, pair.moving.image
        return cls(pair.name, images, (labels_of(pair.fixed), labels_of(pair.moving)), registrar)

    def _labels(self, chain: list[Any], which: str = "fixed") -> NDArray[Any]:
        volume = getattr(self.inputs, f"{which}_labels")
        return resample(volume, self.grid, chain, "nearest")

    def field(self, prediction: Prediction) -> Field:
        """The displacement as it would be written: LPS mm on the fixed grid, (*S, 3)."""
        assert prediction.displacement is not None
        return self.prepared.world_field(prediction.displacement)

    def figures(self, prediction: Prediction, field: Field) -> Row:
        """Dice of the three labels, their mean, the five regions' mean, folds, SD of J."""
        chain = [(field, self.grid), self.prepared.world_affine(prediction)]
        return {
            **self.overlap(self._labels(chain, "moving")),
            **{k: v for k, v in determinant(field, self.grid, None).items()
               if k in ("percent", "sd", "sd_log", "min")},
        }  # fmt: skip

    def overlap(self, warped: NDArray[Any]) -> Row:
        """Dice of label maps on the fixed grid."""
        each = dice(self.labels, warped, LABELS.values())
        five = dice_groups(self.labels, warped, REGIONS)
        return {
            "dice": float(np.mean(list(each.values()))),
            **{f"dice_{name}": each[label] for name, label in LABELS.items() if label in each},
            "five": float(np.mean(list(five.values()))),
        }

    def before(self) -> Row:
        """The same without any registration."""
        return self.overlap(self._labels([self.prepared.initial], "moving"))


class Kept:
    """Runs that are done, one JSON object a line; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                done = json.loads(line)
                self._rows[_name(done["run"])] = done["row"]

    def row(self, run: Mapping[str, Any], make: Callable[[], Row]) -> Row:
        """The row of a run, computed if it is not there."""
        name = _name(run)
        if name not in self._rows:
            self._rows[name] = make()
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"run": dict(run), "row": self._rows[name]}) + "\n")
        return self._rows[name]


def _name(run: Mapping[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)


@dataclass(frozen=True)
class Bench:
    """The loaded method, which may be asked for any options, and the runs that are done."""

    registrar: Registrar
    kept: Kept
    settings: Mapping[str, Any]
    script: str

    @classmethod
    def of(cls, given: argparse.Namespace) -> Bench:
        """The method as the arguments name it."""
        name, _, weights = given.method.partition("@")
        registrar = load_registrar(
            name, 3, weights=weights or None, settings=given.set, device=given.device,
            precision=given.precision, threads=given.threads, seed=given.seed,
        )  # fmt: skip
        settings = dict(map(split_setting, given.set))
        return cls(registrar, Kept(given.keep), settings, Path(sys.argv[0]).stem)

    def predict(self, case: Case, **settings: Any) -> tuple[Prediction, Row]:
        """Sample with options; the answer, and how long it took."""
        options = method_options(
            self.registrar.method, self.registrar.weights.config, {**self.settings, **settings}
        )
        registrar = replace(self.registrar, options=options)
        wall, processor = time.perf_counter(), time.process_time()
        prediction = registrar.predict(case.prepared)
        took = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - processor}
        each = prediction.notes["sampling"]["samples"]
        return prediction, {**took, "steps_taken": float(np.mean([s["steps"] for s in each]))}

    def run(self, case: Case, more: More | None = None, **settings: Any) -> Row:
        """The row of a run: settings, figures, seconds, and what ``more`` finds in the field."""

        def make() -> Row:
            with limited_threads(self.registrar.threads):
                prediction, took = self.predict(case, **settings)
                field = case.field(prediction)
                extra = {} if more is None else more(field, prediction)
                return {**case.figures(prediction, field), **took, **extra}

        return {
            "pair": case.name,
            **settings,
            **self.kept.row(self.named(case.name, settings), make),
        }

    def named(self, pair: str, settings: Mapping[str, Any]) -> Row:
        """What tells a run from every other."""
        r = self.registrar
        return {
            "script": self.script, "pair": pair, "settings": {**self.settings, **settings},
            "weights": r.weights.sha256, "seed": r.seed, "precision": str(r.precision),
            "device": r.device.type, "threads": r.threads,
        }  # fmt: skip

    def cases(self, pairs: Iterable[PairCase]) -> Iterator[Case]:
        """The pairs one after the other, with a line to stderr for each."""
        with limited_threads(self.registrar.threads):
            for pair in pairs:
                start = time.perf_counter()
                yield Case.of(pair, self.registrar)
                print(f"{pair.name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)

    def facts(self) -> Row:
        """What was measured, and on what."""
        r = self.registrar
        return {
            "schema": 1, "method": r.method.name, "weights": r.weights.name,
            "sha256": r.weights.sha256, "settings": dict(self.settings), "seed": r.seed,
            "precision": str(r.precision).removeprefix("torch."), "threads": r.threads, **machine(),
        }  # fmt: skip


def machine() -> Row:
    """The processor, and how busy it is."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def picked(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def mean(rows: Sequence[Row], key: str) -> float:
    """The mean of a figure over rows."""
    return float(np.mean([row[key] for row in rows]))


def sd(rows: Sequence[Row], key: str) -> float:
    """Its standard deviation, unbiased; 0 for a single row."""
    return float(np.std([row[key] for row in rows], ddof=1)) if len(rows) > 1 else 0.0


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def write(path: Path | None, content: Mapping[str, Any]) -> None:
    """Every number as JSON, where asked."""
    if path is not None:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
