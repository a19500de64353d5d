"""The picture of the README: the generated heart before and after registration.

python benchmarks/picture.py docs/heart.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import regtool
from regtool.data.phantom_files import PARTS, write_phantom
from regtool.data.phantoms import make
from regtool.imaging.reading import read_image

COLOURS = ("#ffd23f", "#ee4266", "#3bceac")


def main() -> None:
    """Register the demo pair slice by slice and draw its middle slice."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--method", default="voxelmorph")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {part: Path(folder) / f"{part}.nii.gz" for part in PARTS}
        write_phantom(make("heart3d"), paths)
        result = regtool.register(
            paths["fixed"], paths["moving"], given.method, slices="z",
            fixed_labels=paths["fixed_labels"], moving_labels=paths["moving_labels"],
        )  # fmt: skip
        images = {part: read_image(path).array for part, path in paths.items()}
    z = images["fixed"].shape[0] // 2
    fixed, moving = images["fixed"][z], images["moving"][z]
    panels = [
        ("fixed (end-systole)", fixed, images["fixed_labels"][z]),
        ("moving (end-diastole)", moving, images["moving_labels"][z]),
        ("moving, warped", result.warped[z], result.warped_labels[z]),
        ("difference before", np.abs(moving.astype(float) - fixed), None),
        ("difference after", np.abs(result.warped[z].astype(float) - fixed), None),
        ("displacement, mm", np.linalg.norm(result.field[z], axis=-1), None),
    ]
    rows, columns = np.nonzero(images["moving_labels"][z])
    middle, half = (rows.mean(), columns.mean()), 42
    window = (
        slice(int(middle[0]) - half, int(middle[0]) + half),
        slice(int(middle[1]) - half, int(middle[1]) + half),
    )
    figure, axes = plt.subplots(1, 6, figsize=(15, 2.9))
    brightest = np.percentile(fixed, 99.8)
    for axis, (title, image, labels) in zip(axes, panels, strict=True):
        is_field = title.startswith("displacement")
        axis.imshow(
            image[window],
            cmap="magma" if is_field else "gray",
            vmin=0,
            vmax=None if is_field else brightest,
        )
        if labels is not None:
            for value, colour in zip((1, 2, 3), COLOURS, strict=True):
                axis.contour(labels[window] == value, [0.5], colors=[colour], linewidths=1.2)
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(given.target, dpi=90)
    print(result.record["dice"]["before"]["mean"], result.record["dice"]["after"]["mean"])


if __name__ == "__main__":
    main()
