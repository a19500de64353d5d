"""How many steps DiffuseReg needs: Dice, folds and seconds on ACDC, ED to ES, by steps of DDIM.

    python benchmarks/diffusereg_steps.py PATH/TO/acdc diffusereg@runs/dr/weights/NAME

First table: every validation pair, with each number of steps of DDIM, to the end and with
``stop=auto``, and the mean of several samples. Second: the paper's 2000 ancestral steps on the
first pairs, beside 50 and 25 of DDIM; the seed is the same everywhere. "five" is the mean of the
five regions that the papers report. Labels only measure.
"""

from __future__ import annotations

import argparse

from diffusereg_cases import (
    LABELS,
    Bench,
    Case,
    Row,
    mean,
    pairs_of,
    picked,
    sampling_parser,
    sd,
    table,
    write,
)

ANCESTRAL = "ancestral"


def runs(bench: Bench, case: Case, given: argparse.Namespace, long: bool) -> list[Row]:
    """All runs of a pair; ``long``: it is one of those with ancestral steps."""
    rows = [
        bench.run(case, sampler="ddim", steps=steps, stop=stop, samples=1)
        for steps in sorted({*given.steps, *(given.beside if long else ())})
        for stop in given.stop
    ]
    if given.samples > 1:
        rows += [
            bench.run(case, sampler="ddim", steps=steps, stop=stop, samples=given.samples)
            for steps in given.samples_at
            for stop in given.stop
        ]
    if long:
        rows += [
            bench.run(case, sampler=ANCESTRAL, steps=given.ancestral, stop=stop, samples=1)
            for stop in given.stop
        ]
    return rows


def all_pairs(rows: list[Row], before: list[Row], given: argparse.Namespace) -> str:
    """The table by number of steps."""
    head = ["steps", "stop", "samples", "Dice (SD)", *LABELS, "five", "folds %", "SD J",
            "steps taken", "seconds", "processor s"]  # fmt: skip
    lines: list[list[object]] = [["before", "", "", *overlap(before), "", "", "", "", ""]]
    grid = [(1, steps) for steps in given.steps]
    grid += [(given.samples, steps) for steps in given.samples_at if given.samples > 1]
    for samples, steps in grid:
        for stop in given.stop:
            own = picked(rows, sampler="ddim", steps=steps, stop=stop, samples=samples)
            figures = [f"{mean(own, 'percent'):.3f}", f"{mean(own, 'sd'):.3f}",
                       f"{mean(own, 'steps_taken'):.1f}", f"{mean(own, 'seconds'):.1f}",
                       f"{mean(own, 'cpu'):.1f}"]  # fmt: skip
            lines.append([steps, stop, samples, *overlap(own), *figures])
    return table(head, lines)


def overlap(rows: list[Row]) -> list[str]:
    """The cells of Dice."""
    keys = [*(f"dice_{name}" for name in LABELS), "five"]
    return [f"{mean(rows, 'dice'):.3f} ({sd(rows, 'dice'):.3f})",
            *(f"{mean(rows, key):.3f}" for key in keys)]  # fmt: skip


def against_ancestral(rows: list[Row], names: list[str], given: argparse.Namespace) -> str:
    """The table of the pairs with ancestral steps, one line a pair and sampler."""
    head = ["pair", "sampler", "steps", "stop", "Dice", "less ancestral", "folds %",
            "steps taken", "seconds", "processor s"]  # fmt: skip
    lines = []
    for name in names:
        for stop in given.stop:
            (whole,) = picked(rows, pair=name, sampler=ANCESTRAL, stop=stop)
            short = [picked(rows, pair=name, sampler="ddim", steps=n, stop=stop, samples=1)[0]
                     for n in given.beside]  # fmt: skip
            for row in (whole, *short):
                gap = "" if row is whole else f"{row['dice'] - whole['dice']:+.4f}"
                lines.append([
                    name, row["sampler"], row["steps"], stop, f"{row['dice']:.4f}", gap,
                    f"{row['percent']:.3f}", f"{row['steps_taken']:.0f}", f"{row['seconds']:.1f}",
                    f"{row['cpu']:.1f}",
                ])  # fmt: skip
    return table(head, lines)


def main() -> None:
    """Print the tables; ``--json`` keeps every run."""
    arguments = sampling_parser(__doc__)
    arguments.add_argument("--steps", type=int, nargs="+", default=[5, 10, 15, 25, 50, 100])
    arguments.add_argument("--stop", nargs="+", default=["none", "auto"],
                           choices=["none", "auto"])  # fmt: skip
    arguments.add_argument("--samples", type=int, default=8, help="1: none of these lines")
    arguments.add_argument("--samples-at", type=int, nargs="+", default=[5, 15, 25],
                           help="steps with several samples")  # fmt: skip
    arguments.add_argument("--ancestral", type=int, default=2000)
    arguments.add_argument("--beside", type=int, nargs="+", default=[50, 25],
                           help="steps of DDIM beside ancestral ones")  # fmt: skip
    arguments.add_argument("--ancestral-pairs", type=int, default=2)
    given = arguments.parse_args()
    bench, rows, before = Bench.of(given), [], []
    names = []
    for number, case in enumerate(bench.cases(pairs_of(given))):
        long = number < given.ancestral_pairs
        names += [case.name] if long else []
        before.append({"pair": case.name, **case.before()})
        rows += runs(bench, case, given, long)
    print(all_pairs(rows, before, given))
    if names:
        print("\n" + against_ancestral(rows, names, given))
    write(given.json, {**bench.facts(), "before": before, "rows": rows})


if __name__ == "__main__":
    main()
