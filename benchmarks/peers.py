"""regtool beside SyN, greedy, elastix and ConvexAdam: Dice, folds and time on the same pairs.

    python benchmarks/peers.py oasis PATH --pairs 6 optimise greedy syn@3
    python benchmarks/peers.py acdc PATH --slices z optimise greedy syn elastix
    python benchmarks/peers.py acdc PATH --spacing 1.5 1.5 3.15 optimise greedy convexadam

All start from the same affine (OASIS: ``-m affine``; ACDC: none), see the same intensities and the
same number of threads, one after the other. ``NAME@N`` measures a slow tool on the first N pairs
only; ``NAME+N`` refines a method by N steps. ``--invert`` turns dark to bright in the moving image,
as of another contrast. ``--spacing`` resamples both images first, as tools
want them that cannot work on thick slices; Dice is always of labels warped (nearest neighbour)
onto the original fixed grid, mean over the structures that both images have. Seconds are those of
the deformable step. The first method is the one that others are compared with: paired Wilcoxon
tests over pairs, ratios of time within the run. Folds: voxels whose central Jacobian determinant is
not positive, and corner determinants of the field as written.

SyN and greedy need ``regtool[peers]``, elastix ``itk-elastix``, ConvexAdam ``convexadam``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_tools import TOOLS
from scipy.stats import wilcoxon

import regtool
from regtool.data.acdc import read_acdc
from regtool.imaging.reading import read_image, read_labels
from regtool.imaging.resample import resample
from regtool.imaging.transforms import write_affine
from regtool.imaging.volume import Volume
from regtool.metrics.dice import dice
from regtool.plugins.description import native_preset
from regtool.prepare.pair import as_preparation, prepare_pair
from regtool.spatial.corners import scan
from regtool.spatial.frames import to_network_displacement
from regtool.spatial.grid import Grid
from regtool.spatial.jacobian import jacobian_determinant

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "fast": ("optimise", {"preset": "fast"}),
    "accurate": ("optimise", {"preset": "accurate"}),
    "greedy": ("greedy", {"metric": "ncc", "iterations": (100, 100, 20)}),
    "greedy-default": ("greedy", {}),
    "syn-quick": ("syn", {"quick": True}),
    "syn-cc": ("syn", {"quick": True, "metric": "cc", "radius": 2}),
}
"""Short names: method and its settings. Any other name is a method with its defaults."""

VALIDATION = ("1017", "1036")
"""OASIS scans whose pairs may choose settings; the others are measured on."""


@dataclass(frozen=True)
class Files:
    """A pair: images and labels of the fixed and the moving side."""

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path
    moving_labels: Path


def oasis(folder: Path, validation: bool) -> list[Files]:
    """Neighbouring scans in order of their numbers, both of training (or one of validation)."""
    scans = sorted(p for p in folder.iterdir() if (p / "t1.nii.gz").exists())
    training = [p for p in scans if p.name not in VALIDATION]
    if validation:
        held = [p for p in scans if p.name in VALIDATION]
        pairs = [(v, t) for t in training for v in held]
    else:
        pairs = list(zip(training, training[1:] + training[:1], strict=True))
    return [
        Files(f"{a.name}-{b.name}", a / "t1.nii.gz", b / "t1.nii.gz", a / "labels.nii.gz",
              b / "labels.nii.gz")
        for a, b in pairs
    ]  # fmt: skip


def acdc(folder: Path, split: str) -> list[Files]:
    """End-diastole moves onto end-systole."""
    return [
        Files(p.name, Path(p.fixed.image), Path(p.moving.image), Path(p.fixed.labels),
              Path(p.moving.labels))
        for p in read_acdc(folder) if p.split == split
    ]  # fmt: skip


def at_spacing(volume: Volume, spacing: list[float] | None) -> Volume:
    """The image on a grid of another spacing over the same field of view."""
    if spacing is None:
        return volume
    old = volume.grid
    wide = np.array(old.size) * old.spacing
    size = np.maximum(1, np.round(wide / spacing)).astype(int)
    step = wide / size
    origin = old.origin + old.direction_matrix @ ((step - old.spacing) / 2)
    grid = Grid(*(tuple(v.tolist()) for v in (size, step)), old.direction, tuple(origin.tolist()))
    return Volume(resample(volume, grid), grid)


def inverted(volume: Volume) -> Volume:
    """Bright for dark within the object; what is 0 around it stays 0."""
    x = volume.array.astype(np.float32)
    return Volume(np.where(x > 0, np.percentile(x, 99.9) - x, 0).clip(0), volume.grid)


def registered(
    name: str, fixed: Volume, moving: Volume, initial: Path | None, given: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray, float]:
    """Field on the grid of ``fixed`` (LPS mm), affine after it, seconds of the deformable step."""
    name, _, refine = name.partition("+")
    if name in TOOLS:
        return by_tool(name, fixed, moving, initial, given)
    method, settings = METHODS.get(name, (name, {}))
    result = regtool.register(
        fixed, moving, method, settings=settings, slices=given.slices, threads=given.threads,
        initial=None if initial is None else str(initial),
        refine=int(refine) if refine else None,
    )  # fmt: skip
    seconds = result.record["seconds"]
    return result.field, result.affine, seconds["network"] + seconds.get("refine", 0.0)


def by_tool(
    name: str, fixed: Volume, moving: Volume, initial: Path | None, given: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray, float]:
    """The same for a tool that is no method of regtool."""
    from regtool.imaging.transforms import read_affine

    axis = None if given.slices is None else "xyz".index(given.slices)
    matrix = np.eye(fixed.ndim + 1) if initial is None else read_affine(initial)
    ndim = fixed.ndim if axis is None else 2
    preset = native_preset(ndim, intensity=[{"kind": "minmax"}])
    prepared = prepare_pair(
        fixed, moving, as_preparation(preset),
        slices=None if axis is None else fixed.ndim - 1 - axis, initial=matrix,
    )  # fmt: skip
    f, m = (s.image[:, 0].numpy() for s in (prepared.pair.fixed, prepared.pair.moving))
    spacing = tuple(prepared.pair.fixed.spacing)
    start = time.perf_counter()
    found = [TOOLS[name](a, b, spacing, given.threads) for a, b in zip(f, m, strict=True)]
    seconds = time.perf_counter() - start
    u = torch.from_numpy(np.stack(found).astype(np.float32))
    return prepared.world_field(u), prepared.initial, seconds


def measure(name: str, pair: Files, initial: Path | None, given: argparse.Namespace) -> dict:
    """Register one pair by one method; its row."""
    fixed, moving = (read_image(p) for p in (pair.fixed, pair.moving))
    labels = read_labels(pair.fixed_labels), read_labels(pair.moving_labels)
    if given.invert:
        moving = inverted(moving)
    f, m = at_spacing(fixed, given.spacing), at_spacing(moving, given.spacing)
    field, affine, seconds = registered(name, f, m, initial, given)
    grid = labels[0].grid
    common = sorted(set(np.unique(labels[0].array)) & set(np.unique(labels[1].array)) - {0})

    def overlap(chain) -> float:
        warped = resample(labels[1], grid, chain, "nearest")
        return float(np.mean(list(dice(labels[0].array, warped, common).values())))

    u = to_network_displacement(field, f.grid, f.grid)
    determinant = jacobian_determinant(u[None])
    cells = u[1:].movedim(1, 0) if given.slices else u[None]
    return {
        "pair": pair.name, "before": overlap([affine]),
        "dice": overlap([(field, f.grid), affine]), "seconds": seconds,
        "folds": int((determinant <= 0).sum()), "voxels": determinant.numel(),
        "corners": scan(cells.movedim(1, 0)).count,
    }  # fmt: skip


def main() -> None:
    """Measure pair by pair, all methods on each, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=("oasis", "acdc"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("methods", nargs="+", help="NAME[+N][@PAIRS]")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--split", default="val", help="ACDC's split")
    parser.add_argument("--validation", action="store_true", help="OASIS pairs for choosing")
    parser.add_argument("--invert", action="store_true", help="the moving image's intensities")
    parser.add_argument("--slices", choices=("x", "y", "z"))
    parser.add_argument("--spacing", type=float, nargs="+", metavar="MM")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.data == "oasis":
        pairs = oasis(given.folder, given.validation)
    else:
        pairs = acdc(given.folder, given.split)
    pairs = pairs[: given.pairs]
    rows: dict[str, list[dict]] = {name.partition("@")[0]: [] for name in given.methods}
    for number, pair in enumerate(pairs):
        with tempfile.TemporaryDirectory() as scratch:
            initial = None
            if given.data == "oasis":
                initial = Path(scratch) / "affine.mat"
                found = regtool.register(pair.fixed, pair.moving, "affine", threads=given.threads)
                write_affine(initial, found.affine)
            for method in given.methods:
                name, _, limit = method.partition("@")
                if limit and number >= int(limit):
                    continue
                row = measure(name, pair, initial, given)
                rows[name].append(row)
                print(f"{pair.name} {name}: {row}", flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    table(rows)


def table(rows: dict[str, list[dict]]) -> None:
    """Print a line for each method, compared with the first on the pairs that it has."""
    first = {r["pair"]: r for r in next(iter(rows.values()))}
    print("\n| method | pairs | Dice before | Dice | to the first | p | folded voxels | folded "
          "corners | seconds | time to the first |\n" + "|---" * 10 + "|")  # fmt: skip
    for name, found in rows.items():
        ours = [first[r["pair"]] for r in found]
        score = np.array([r["dice"] for r in found])
        gap = score - np.array([r["dice"] for r in ours])
        p = f"{wilcoxon(gap).pvalue:.3f}" if len(gap) > 1 and gap.any() else "-"
        ratio = sum(r["seconds"] for r in found) / sum(r["seconds"] for r in ours)
        print(
            f"| {name} | {len(found)} | {np.mean([r['before'] for r in found]):.3f} "
            f"| {score.mean():.4f} ({score.std():.4f}) | {gap.mean():+.4f} | {p} "
            f"| {sum(r['folds'] for r in found)} | {sum(r['corners'] for r in found)} "
            f"| {np.mean([r['seconds'] for r in found]):.1f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
