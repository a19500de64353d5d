"""The way from the moving to the fixed image, and synthetic images, on ACDC patients.

    python benchmarks/diffusemorph_trajectory.py PATH/TO/acdc --weights diffusemorph-acdc-3d
    python benchmarks/diffusemorph_trajectory.py PATH/TO/acdc --slices z

For each share of the way (DiffuseMorph's eta): mean Dice and PSNR of the warped moving image
against the fixed one, the mean length of the displacement in voxels, and folds; beside it
VoxelMorph's field times that share, and VoxelMorph-diff's velocity integrated for that share of the
time, the paper's baselines. Then SSIM and PSNR of the synthetic image against the fixed and against
the moving image. Labels only measure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import regtool
from regtool.data.readers import open_data
from regtool.engine.measure import determinant
from regtool.imaging.reading import read_image, read_labels
from regtool.imaging.resample import resample
from regtool.metrics.dice import dice
from regtool.metrics.similarity import psnr
from regtool.metrics.ssim import ssim

LABELS = (1, 2, 3)


class Case:
    """A pair with its labels, and the figures of any field on it."""

    def __init__(self, pair: Any) -> None:
        self.name = pair.name
        self.files = pair.fixed.image, pair.moving.image
        self.fixed, self.moving = (read_image(f) for f in self.files)
        self.fixed_labels = read_labels(pair.fixed.labels).array
        self.moving_labels = read_labels(pair.moving.labels)

    def figures(self, field: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
        """Dice, PSNR and mean length (voxels of the fixed grid) of a field in LPS mm."""
        grid = self.fixed.grid
        chain = [(field, grid), affine]
        warped = resample(self.moving, grid, chain)
        labels = resample(self.moving_labels, grid, chain, "nearest")
        scores = list(dice(self.fixed_labels, labels, LABELS).values())
        voxels = np.linalg.norm(field / np.asarray(grid.spacing), axis=-1)  # components x, y, z
        return {
            "dice": float(np.mean(scores)),
            "psnr": psnr(self.fixed.array, warped),
            "length": float(voxels.mean()),
            "folds": determinant(field, grid, None)["percent"],
        }


def way(case: Case, name: str, given: argparse.Namespace, share: float) -> dict[str, Any]:
    """Figures of one method at one share of the way."""
    settings: list[str] = list(given.set) if name == "diffusemorph" else []
    weights = given.weights if name == "diffusemorph" else None
    if name == "diffusemorph":
        settings.append(f"eta={share}")
    if name == "voxelmorph-diff":
        settings.append(f"fraction={share}")
    found = regtool.register(
        *case.files, name, weights=weights, slices=given.slices, settings=settings,
        threads=given.threads,
    )  # fmt: skip
    field = found.field * share if name == "voxelmorph" else found.field
    return case.figures(field, found.affine)


def synthetic(case: Case, given: argparse.Namespace) -> dict[str, float]:
    """Similarity of the synthetic image with both images, all on the network's grid."""
    from regtool.engine.registrar import load_registrar
    from regtool.engine.request import Request, read_inputs, slice_axis
    from regtool.prepare.pair import prepare_pair

    request = Request(*case.files, "diffusemorph", slices=given.slices)
    ndim = 3 if given.slices is None else 2
    settings = ["synthesize=true", *given.set, *given.synthesis]
    registrar = load_registrar(
        "diffusemorph", ndim, weights=given.weights, settings=settings, threads=given.threads
    )
    inputs = read_inputs(request)
    axis = slice_axis(inputs.fixed, registrar.method, request.slices)
    prepared = prepare_pair(inputs.fixed, inputs.moving, registrar.preparation, slices=axis)
    image = registrar.predict(prepared).extras["Synthetic"].tensor[:, 0].float().numpy()
    pair = [s.image[:, 0].numpy() for s in (prepared.pair.fixed, prepared.pair.moving)]
    row = {}
    for which, other in zip(("fixed", "moving"), pair, strict=True):
        shape = (a[0] if axis is None else a for a in (other, image))
        one, two = shape
        row[f"ssim_{which}"] = ssim(one, two, data_range=1.0)
        row[f"psnr_{which}"] = psnr(one, two, data_range=1.0)
    row["ssim_pair"] = ssim(*(p[0] if axis is None else p for p in pair), data_range=1.0)
    return row


def main() -> None:
    """Print the two tables; ``--json`` keeps every number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--slices", help="an axis for 2-D weights")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75, 1])
    parser.add_argument("--methods", nargs="+",
                        default=["diffusemorph", "voxelmorph", "voxelmorph-diff"])  # fmt: skip
    parser.add_argument("--synthesis", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = [p for p in open_data(f"acdc:{given.folder}") if p.split == given.split]
    cases = [Case(pair) for pair in pairs[: given.limit]]
    kept: dict[str, Any] = {"way": [], "synthetic": []}
    print(
        "| method | share | Dice | PSNR, dB | length, voxels | folds % |\n|---|---|---|---|---|---|"
    )
    for name in given.methods:
        for share in given.shares:
            rows = [way(case, name, given, share) for case in cases]
            mean = {k: float(np.mean([r[k] for r in rows])) for k in
                    ("dice", "psnr", "length", "folds")}  # fmt: skip
            kept["way"].append({"method": name, "share": share, **mean})
            print(
                f"| {name} | {share:g} | {mean['dice']:.3f} | {mean['psnr']:.2f} "
                f"| {mean['length']:.2f} | {mean['folds']:.3f} |",
                flush=True,
            )
    kept["synthetic"] = [{"pair": case.name, **synthetic(case, given)} for case in cases]
    found = {k: float(np.mean([r[k] for r in kept["synthetic"]])) for k in kept["synthetic"][0]
             if k != "pair"}  # fmt: skip
    print("\nsynthetic image: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    nearer = sum(r["ssim_fixed"] > r["ssim_moving"] for r in kept["synthetic"])
    print(f"nearer to the fixed image by SSIM: {nearer} of {len(cases)}")
    if given.json:
        given.json.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
