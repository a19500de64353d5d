"""Does DiffuseReg's deviation over samples tell where it errs? Pairs of known deformation, ACDC.

    python benchmarks/diffusereg_uncertainty.py PATH/TO/acdc diffusereg@WEIGHTS --samples 8

The moving image is each validation patient at end-diastole, the fixed one the same warped by a
known field, with noise of ``--noise`` of its range. ``motion``: the field is the heart's own, found
by ``optimise`` between end-diastole and end-systole and smoothed until its determinant is nowhere
below 0.1. ``random``: a random smooth velocity about the heart (Gaussian of 20 mm), integrated, as
long in the heart as that motion. Rank correlation (Spearman) over voxels of the network's grid:
deviation of the samples and length of the mean field's error, both in mm, in the heart (labels
grown by 10 mm) and in the whole box, as far as the image reaches. "length" is what the length of
the mean field says of the error instead, for comparison. Intervals: 95 %, Student's t over pairs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusereg_cases import (
    Bench,
    Case,
    Field,
    Row,
    labels_of,
    mean,
    pairs_of,
    picked,
    sampling_parser,
    sd,
    table,
    write,
)
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr, t

import regtool
from regtool.data.cases import PairCase
from regtool.engine.device import limited_threads
from regtool.imaging.reading import read_image, read_labels
from regtool.imaging.resample import resample
from regtool.imaging.volume import Volume
from regtool.plugins.exchange import Prediction
from regtool.spatial.frames import to_network_displacement, to_world_field
from regtool.spatial.grid import Grid
from regtool.spatial.integrate import integrate
from regtool.spatial.jacobian import field_jacobian
from regtool.spatial.smooth import gaussian

GROWN = 10.0
"""Millimetres by which labels are grown to the region of the heart."""

LEAST = 0.1
"""Least determinant of a known field."""


# -- pairs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A pair whose true field (*S, 3), LPS mm on the fixed grid, is known."""

    fixed: Volume
    moving: Volume
    fixed_labels: Volume
    moving_labels: Volume
    truth: Field

    def case(self, name: str, bench: Bench) -> Case:
        """The pair on the network's grid."""
        images = self.fixed, self.moving
        return Case(name, images, (self.fixed_labels, self.moving_labels), bench.registrar)


def known(pair: PairCase, truth: Field, given: argparse.Namespace, seed: int) -> Known:
    """The patient at end-diastole, and the same warped by a field, with noise."""
    moving = read_image(pair.moving.image)
    labels = read_labels(labels_of(pair.moving))
    chain = [(truth, moving.grid)]
    warped = resample(moving, moving.grid, chain)
    low, high = np.percentile(warped, (0.5, 99.5))
    noise = np.random.default_rng(seed).normal(0, given.noise * (high - low), warped.shape)
    return Known(
        Volume((warped + noise).astype(np.float32), moving.grid),
        moving,
        Volume(resample(labels, moving.grid, chain, "nearest"), moving.grid),
        labels,
        truth,
    )


def motion(pair: PairCase, given: argparse.Namespace) -> Field:
    """The heart's motion from end-diastole to end-systole as ``optimise`` finds it, smoothed."""
    found = regtool.register(
        pair.fixed.image, pair.moving.image, "optimise", initial="none", threads=given.threads,
        topology="off",
    ).field  # fmt: skip
    grid = read_image(pair.fixed.image).grid
    for sigma in (4.0, 6.0, 8.0, 12.0, 16.0):
        field = smoothed(found, grid, sigma)
        if least(field, grid) >= LEAST:
            return field
    raise RuntimeError(f"{pair.name}: the motion folds however smooth it is")


def drawn(labels: Volume, length: float, seed: int) -> Field:
    """A random fold-free field about the heart of root mean square ``length`` mm inside."""
    grid, random = labels.grid, torch.Generator().manual_seed(seed)
    heart = labels.array > 0
    near = torch.from_numpy(grown(heart, grid).astype(np.float32))[None, None]
    noise = torch.randn(1, 3, *grid.shape, generator=random)
    pitch = torch.tensor(list(reversed(grid.spacing))).reshape(1, 3, 1, 1, 1)
    rough = gaussian(noise, widths(grid, 20.0)) / pitch  # as long along every axis, in mm
    velocity = rough * gaussian(near, widths(grid, 10.0))
    for _ in range(3):  # the length of an exponential is nearly that of its velocity
        field = to_world_field(integrate(velocity)[0], grid, grid)
        velocity = velocity * (length / rms(field, heart))
    field = to_world_field(integrate(velocity)[0], grid, grid)
    if least(field, grid) < LEAST:
        print(f"seed {seed}: least determinant {least(field, grid):.3f}", file=sys.stderr)
    return field


def smoothed(field: Field, grid: Grid, sigma: float) -> Field:
    """A field after a Gaussian of ``sigma`` mm."""
    channels = torch.from_numpy(np.moveaxis(field, -1, 0).copy())[None]
    return np.moveaxis(gaussian(channels, widths(grid, sigma))[0].numpy(), 0, -1)


def widths(grid: Grid, sigma: float) -> list[float]:
    """Millimetres in voxels, by tensor axis."""
    return [sigma / s for s in reversed(grid.spacing)]


def least(field: Field, grid: Grid) -> float:
    """The least determinant of a field."""
    return float(field_jacobian(field, grid).min())


def rms(field: Field, where: NDArray[np.bool_]) -> float:
    """Root of the mean squared length of a field inside."""
    return float(np.sqrt(np.mean(np.sum(field[where].astype(np.float64) ** 2, -1))))


def grown(mask: NDArray[np.bool_], grid: Grid, by: float = GROWN) -> NDArray[np.bool_]:
    """A mask and what lies within ``by`` mm of it."""
    return distance_transform_edt(~mask, sampling=tuple(reversed(grid.spacing))) <= by


# -- figures -----------------------------------------------------------------------------------


def compared(case: Case, truth: Field, prediction: Prediction) -> Row:
    """Rank correlations and mean figures of one pair, on the network's grid."""
    prepared, grid = case.prepared, case.prepared.grid
    assert prediction.displacement is not None
    found = prediction.displacement[0].cpu().float()
    true = to_network_displacement(truth, case.grid, grid)
    pitch = torch.tensor(list(reversed(grid.spacing))).reshape(3, 1, 1, 1)
    error = ((found - true) * pitch).norm(dim=0).numpy()
    length = (found * pitch).norm(dim=0).numpy()
    apart = prediction.extras["Deviation"].tensor[0, 0].cpu().numpy()
    ones = Volume(np.ones(case.grid.shape, np.uint8), case.grid)
    box = resample(ones, grid, interpolation="nearest") > 0
    assert prepared.pair.fixed.labels is not None
    heart = grown(prepared.pair.fixed.labels[0, 0].numpy() > 0, grid) & box
    row: Row = {}
    for where, mask in (("heart", heart), ("box", box)):
        row |= {
            f"rank_{where}": float(spearmanr(apart[mask], error[mask]).statistic),
            f"length_{where}": float(spearmanr(length[mask], error[mask]).statistic),
            f"error_{where}": float(error[mask].mean()),
            f"apart_{where}": float(apart[mask].mean()),
        }
    row["moved"] = float((true * pitch).norm(dim=0).numpy()[heart].mean())
    return row


def interval(rows: Sequence[Row], key: str) -> str:
    """Mean over pairs, and its 95 % interval where there are two or more."""
    middle = mean(rows, key)
    if len(rows) < 2:
        return f"{middle:.3f}"
    half = t.ppf(0.975, len(rows) - 1) * sd(rows, key) / len(rows) ** 0.5
    return f"{middle:.3f} ({middle - half:.3f} to {middle + half:.3f})"


def report(rows: Sequence[Row], given: argparse.Namespace) -> str:
    """The table over pairs, and one of every pair."""
    lines = []
    for kind in given.kinds:
        own = picked(rows, kind=kind)
        for where in ("heart", "box"):
            lines.append([
                kind, where, interval(own, f"rank_{where}"),
                f"{mean(own, f'length_{where}'):.3f}",
                f"{mean(own, f'error_{where}'):.2f}", f"{mean(own, f'apart_{where}'):.2f}",
            ])  # fmt: skip
    head = ["field", "where", "rank correlation (95 %)", "length's", "error, mm", "deviation, mm"]
    each = [
        [r["kind"], r["pair"], f"{r['rank_heart']:.3f}", f"{r['rank_box']:.3f}",
         f"{r['moved']:.2f}", f"{r['error_heart']:.2f}", f"{r['apart_heart']:.2f}",
         f"{r['least']:.2f}", f"{r['cpu']:.1f}"]
        for r in rows
    ]  # fmt: skip
    names = ["field", "pair", "heart", "box", "known field, mm", "error, mm", "deviation, mm",
             "least determinant", "processor s"]  # fmt: skip
    return table(head, lines) + "\n\n" + table(names, each)


def measure(
    bench: Bench, pair: PairCase, field: Field, given: argparse.Namespace, seed: int
) -> Row:
    """One pair with one field."""
    made = known(pair, field, given, seed)
    case = made.case(pair.name, bench)
    how: dict[str, Any] = {"steps": given.steps, "stop": given.stop, "samples": given.samples}
    prediction, took = bench.predict(case, **how)
    return {**compared(case, made.truth, prediction), **took, "least": least(field, case.grid)}


def rows_of(bench: Bench, pair: PairCase, number: int, given: argparse.Namespace) -> list[Row]:
    """The rows of a patient, one for each kind of field."""
    found: list[Field] = []  # optimised once, and only where a run is missing

    def field(kind: str, seed: int) -> Field:
        if not found:
            found.append(motion(pair, given))
        if kind == "motion":
            return found[0]
        labels = read_labels(labels_of(pair.moving))
        return drawn(labels, rms(found[0], labels.array > 0), seed)

    seed = 1000 * given.seed + number
    settings = {"steps": given.steps, "stop": given.stop, "samples": given.samples}
    rows = []
    for kind in given.kinds:
        run = bench.named(pair.name, settings) | {"kind": kind, "noise": given.noise}

        def make(kind: str = kind) -> Row:
            return measure(bench, pair, field(kind, seed), given, seed)

        row = bench.kept.row(run, make)
        rows.append({"pair": pair.name, "kind": kind, **settings, **row})
    return rows


def main() -> None:
    """Print the tables; ``--json`` keeps every number."""
    arguments = sampling_parser(__doc__)
    arguments.add_argument("--samples", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=15)
    arguments.add_argument("--stop", default="none", choices=["none", "auto"])
    arguments.add_argument("--kinds", nargs="+", default=["motion", "random"],
                           choices=["motion", "random"])  # fmt: skip
    arguments.add_argument("--noise", type=float, default=0.02, help="part of the image's range")
    given = arguments.parse_args()
    if given.samples < 2:
        arguments.error("--samples: a deviation needs two at least")
    bench, rows = Bench.of(given), []
    with limited_threads(given.threads):
        for number, pair in enumerate(pairs_of(given)):
            rows += rows_of(bench, pair, number, given)
            print(pair.name, file=sys.stderr)
    print(report(rows, given))
    write(given.json, {**bench.facts(), "noise": given.noise, "rows": rows})


if __name__ == "__main__":
    main()
