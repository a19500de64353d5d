"""What steering does to DiffuseReg's fields, by its scale: smoothness, direction, organ; on ACDC.

    python benchmarks/diffusereg_steering.py PATH/TO/acdc diffusereg@WEIGHTS -o steering.png

Every validation pair, ED to ES. Smoothness: SD of the Jacobian determinant. Direction: mean cosine
of displacement and direction inside a label of the fixed image, and farther than 25 mm from it.
Organ: Dice of the organ, and the mean of the other two; the labels of both images steer, so the
organ's Dice is no evidence of a good registration. All on the written field. Scale 0 is the same
run in all three tables. "in all" counts the pairs whose figure improves with every larger scale;
of organs, whose organ does so while the mean of the others falls by 0.01 at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from diffusereg_cases import (
    LABELS,
    Bench,
    Case,
    Field,
    More,
    Row,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = Callable[[Row], float]

FAR = 25.0
"""Millimetres from the mask of a direction at which nothing should change."""

COLOURS = ("#0072b2", "#d55e00", "#009e73")  # of Okabe and Ito: apart to colour-blind eyes


# -- runs --------------------------------------------------------------------------------------


def cosines(case: Case, directions: Sequence[str], label: int) -> More:
    """What finds the mean cosine of a field and each direction, inside the label and far away."""
    inside = case.labels == label
    spacing = tuple(reversed(case.grid.spacing))
    far = distance_transform_edt(~inside, sampling=spacing) > FAR

    def more(field: Field, _: Any) -> Row:
        return {
            f"{where} {d}": cosine(field[mask], d)
            for d in directions
            for where, mask in (("inside", inside), ("far", far & field.any(-1)))
        }

    return more


def cosine(vectors: NDArray[Any], direction: str) -> float:
    """The mean cosine of displacements (N, 3) in LPS mm and ``x,y,z``."""
    d = np.asarray([float(v) for v in direction.split(",")])
    lengths = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(d)
    return float(np.mean(vectors @ d / np.maximum(lengths, 1e-6)))


def runs(bench: Bench, case: Case, given: argparse.Namespace) -> list[Row]:
    """All runs of a pair; a row's ``what`` says which steering it has, and how much."""
    more = cosines(case, given.direction, given.label)
    how = {"steps": given.steps, "stop": given.stop, "samples": 1}
    rows = [{"what": "none", "scale": 0.0, **bench.run(case, more, **how)}]

    def add(what: str, scales: Sequence[float], scale_name: str, **settings: Any) -> None:
        for scale in scales:
            row = bench.run(case, more, **how, **settings, **{scale_name: scale})
            rows.append({"what": what, "scale": scale, **row})

    add("smoothness", given.smoothness, "smoothness")
    for d in given.direction:
        vector = tuple(float(v) for v in d.split(","))
        add(d, given.direction_scales, "direction_scale", direction=vector,
            direction_in=given.label)  # fmt: skip
    for name in given.organs:
        add(name, given.organ_scales, "organ_scale", organ=LABELS[name])
    return rows


# -- figures -----------------------------------------------------------------------------------


def curve(rows: Sequence[Row], what: str, scales: Sequence[float]) -> list[list[Row]]:
    """The rows of all pairs at scale 0 and at each of ``scales``."""
    return [picked(rows, what="none"), *(picked(rows, what=what, scale=s) for s in scales)]


def figure_of(key: str) -> Value:
    """What reads a figure of a row."""
    return lambda row: float(row[key])


def others_of(name: str) -> Value:
    """What takes the mean Dice of all labels but one from a row."""
    return lambda row: others(row, name)


def others(row: Row, name: str) -> float:
    """The mean Dice of all labels but one."""
    return float(np.mean([row[f"dice_{k}"] for k in LABELS if k != name]))


def improved(steps: Sequence[Sequence[Row]], better: Callable[[Row, Row], bool]) -> str:
    """How many pairs get better from each scale to the next."""
    pairs = list(zip(*steps, strict=True))
    count = sum(all(better(one, two) for one, two in pairwise(pair)) for pair in pairs)
    return f"{count} of {len(pairs)}"


def kept(steps: Sequence[Sequence[Row]], name: str) -> str:
    """How many pairs gain with every scale for one organ, and keep the others all along."""
    key, count = f"dice_{name}", 0
    pairs = list(zip(*steps, strict=True))
    for pair in pairs:
        gains = all(two[key] > one[key] for one, two in pairwise(pair))
        count += gains and all(others(r, name) >= others(pair[0], name) - 0.01 for r in pair)
    return f"{count} of {len(pairs)}"


def smoothness_table(rows: Sequence[Row], given: argparse.Namespace) -> str:
    """SD of the Jacobian by scale."""
    steps = curve(rows, "smoothness", given.smoothness)
    lines = [
        [f"{s:g}", f"{mean(own, 'sd'):.4f} ({sd(own, 'sd'):.4f})", f"{mean(own, 'percent'):.3f}",
         f"{mean(own, 'dice'):.3f}"]
        for s, own in zip([0, *given.smoothness], steps, strict=True)
    ]  # fmt: skip
    lines.append(["in all", improved(steps, lambda a, b: b["sd"] < a["sd"]), "", ""])
    return table(["smoothness", "SD of J (SD over pairs)", "folds %", "Dice"], lines)


def direction_table(rows: Sequence[Row], given: argparse.Namespace, d: str) -> str:
    """Mean cosine by scale."""
    steps = curve(rows, d, given.direction_scales)
    lines = [
        [f"{s:g}", f"{mean(own, f'inside {d}'):+.3f} ({sd(own, f'inside {d}'):.3f})",
         f"{mean(own, f'far {d}'):+.3f}", f"{mean(own, 'percent'):.3f}", f"{mean(own, 'dice'):.3f}"]
        for s, own in zip([0, *given.direction_scales], steps, strict=True)
    ]  # fmt: skip
    count = improved(steps, lambda a, b: b[f"inside {d}"] > a[f"inside {d}"])
    lines.append(["in all", count, "", "", ""])
    head = [f"direction {d} in {given.label}", "cosine inside (SD)", "far away", "folds %", "Dice"]
    return table(head, lines)


def organ_table(rows: Sequence[Row], given: argparse.Namespace) -> str:
    """Dice of each organ and of the others by scale."""
    head, lines = ["organ"], []
    for name in given.organs:
        head += [f"{name} (SD)", "others (gain)"]
    steps = {name: curve(rows, name, given.organ_scales) for name in given.organs}
    for number, scale in enumerate([0, *given.organ_scales]):
        cells = []
        for name in given.organs:
            own, first = steps[name][number], steps[name][0]
            rest, start = (np.mean([others(r, name) for r in x]) for x in (own, first))
            key = f"dice_{name}"
            cells += [f"{mean(own, key):.3f} ({sd(own, key):.3f})",
                      f"{rest:.3f} ({rest - start:+.4f})"]  # fmt: skip
        lines.append([f"{scale:g}", *cells])
    counts: list[str] = []
    for name in given.organs:
        counts += [kept(steps[name], name), ""]
    return table(head, [*lines, ["in all", *counts]])


# -- the picture -------------------------------------------------------------------------------


def draw(rows: Sequence[Row], given: argparse.Namespace) -> None:
    """Three panels: each pair a thin line, their mean a thick one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    style: dict[Any, Any] = {"font.size": 8, "axes.titlesize": 9, "axes.spines.top": False,
             "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8}  # fmt: skip
    with plt.rc_context(style):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(7.6, 2.6), layout="constrained")
        panel(left, rows, "smoothness", given.smoothness, figure_of("sd"), COLOURS[0])
        left.set(title="smoothness", ylabel="SD of the Jacobian determinant", ylim=(0, None))
        for d, colour in zip(given.direction, cycle(COLOURS)):
            panel(middle, rows, d, given.direction_scales, figure_of(f"inside {d}"), colour)
        middle.set(title="direction", ylabel="mean cosine inside the mask", ylim=(None, 1.02))
        middle.legend(
            [Line2D([], [], color=c) for _, c in zip(given.direction, cycle(COLOURS))],
            [f"({d.replace(',', ', ')})" for d in given.direction],
            loc="lower right",
        )
        for name, colour in zip(given.organs, COLOURS[: len(given.organs)], strict=True):
            own = f"dice_{name}"
            panel(right, rows, name, given.organ_scales, figure_of(own), colour, each=False)
            panel(right, rows, name, given.organ_scales, others_of(name), colour,
                  "--", each=False)  # fmt: skip
        right.set(title="organ", ylabel="Dice")
        lines = [Line2D([], [], color=c) for c in COLOURS[: len(given.organs)]]
        lines += [Line2D([], [], color="0.3", linestyle=s) for s in ("-", "--")]
        right.legend(lines, [*given.organs, "the organ", "the others"], loc="center left",
                     bbox_to_anchor=(1.0, 0.5), handlelength=1.8)  # fmt: skip
        for axis, letter in zip((left, middle, right), "abc", strict=True):
            axis.set_title(letter, loc="left", fontweight="bold")
            axis.set_xlabel("scale")
        figure.savefig(given.output, dpi=300)
        plt.close(figure)


def panel(
    axis: Axes,
    rows: Sequence[Row],
    what: str,
    scales: Sequence[float],
    value: Value,
    colour: str,
    line: str = "-",
    each: bool = True,
) -> None:
    """A curve over evenly placed scales; ``each``: with a line for every pair."""
    values = np.array([[value(r) for r in own] for own in curve(rows, what, scales)])
    places = np.arange(len(values))
    if each:
        axis.plot(places, values, color=colour, alpha=0.25, linewidth=0.6)
    axis.plot(places, values.mean(1), line, color=colour, marker="o", markersize=3, linewidth=1.6)
    axis.set_xticks(places, [f"{s:g}" for s in (0, *scales)])


def main() -> None:
    """Print the tables and draw the picture; ``--json`` keeps every run."""
    arguments = sampling_parser(__doc__)
    arguments.add_argument("-o", "--output", type=Path, required=True, help="PNG, PDF or SVG")
    arguments.add_argument("--steps", type=int, default=15)
    arguments.add_argument("--stop", default="none", choices=["none", "auto"])
    arguments.add_argument("--smoothness", type=float, nargs="*", default=[0.1, 0.3, 1, 3, 10, 30])
    arguments.add_argument("--direction", action="append", metavar="x,y,z",
                           help="1,0,0 and 0,0,1 unless given; LPS")  # fmt: skip
    arguments.add_argument("--label", type=int, default=2, help="where; 2 is the myocardium")
    arguments.add_argument("--direction-scales", type=float, nargs="*", default=[0.3, 1, 3, 10, 30])
    arguments.add_argument("--organs", nargs="*", default=list(LABELS), choices=list(LABELS))
    arguments.add_argument("--organ-scales", type=float, nargs="*", default=[1, 3, 10, 30])
    given = arguments.parse_args()
    given.direction = given.direction or ["1,0,0", "0,0,1"]
    bench, rows = Bench.of(given), []
    bench = replace(bench, script=" ".join([bench.script, str(given.label), *given.direction]))
    for case in bench.cases(pairs_of(given)):
        rows += runs(bench, case, given)
    parts = [smoothness_table(rows, given)]
    parts += [direction_table(rows, given, d) for d in given.direction]
    parts.append(organ_table(rows, given))
    print("\n\n".join(parts))
    draw(rows, given)
    write(given.json, {**bench.facts(), "rows": rows})


if __name__ == "__main__":
    main()
