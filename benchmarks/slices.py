"""Seconds of one volume of many slices against as many calls with one slice each.

    python benchmarks/slices.py -m ldm-morph --slices 200 --calls 10

Whole commands from a cold start, files in and files out, on generated hearts, no two slices alike.
``--calls`` single slices are timed and their mean stands for all; give it the number of slices to
time every one. Also prints the seconds that ``import torch`` takes in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regtool.data.readers import open_data


def timed(command: list[str]) -> float:
    """Wall seconds of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def stack(paths: list[Path], count: int) -> sitk.Image:
    """``count`` slices out of 2-D files in turn, each rolled a little further."""
    arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in paths]
    first = sitk.ReadImage(str(paths[0]))
    slices = [np.roll(arrays[i % len(arrays)], i // len(arrays), 1) for i in range(count)]
    image = sitk.GetImageFromArray(np.stack(slices))
    image.SetSpacing((*first.GetSpacing(), 8.0))
    return image


def main() -> None:
    """Time both ways and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--method", default="ldm-morph")
    parser.add_argument("-w", "--weights")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--calls", type=int, default=10)
    given = parser.parse_args()
    regtool = [sys.executable, "-m", "regtool.cli.app", "register", "-q", "-m", given.method]
    if given.weights:
        regtool += ["-w", given.weights]
    pairs = open_data("phantom:heart2d?n=8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volumes = [stack([getattr(p, role).image for p in pairs], given.slices)
                   for role in ("fixed", "moving")]  # fmt: skip
        files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
        for image, file in zip(volumes, files, strict=True):
            sitk.WriteImage(image, str(file))
        whole = timed([*regtool, *map(str, files), "--slices", "z", "-o", str(folder / "whole_")])
        single = []
        for i in range(given.calls):
            for image, file in zip(volumes, files, strict=True):
                sitk.WriteImage(image[:, :, i], str(file))
            single.append(timed([*regtool, *map(str, files), "-o", str(folder / f"s{i}_")]))
        torch = min(timed([sys.executable, "-c", "import torch"]) for _ in range(3))
    calls = float(np.mean(single)) * given.slices
    print(f"import torch                       {torch:8.2f} s")
    print(f"one slice, cold start (median)     {np.median(single):8.2f} s")
    print(f"{given.slices} slices as one volume          {whole:8.2f} s")
    print(f"{given.slices} calls ({given.calls} timed)           {calls:8.1f} s")
    print(f"ratio                              {calls / whole:8.1f}")


if __name__ == "__main__":
    main()
