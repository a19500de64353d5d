"""Sound folders of data sets, tiny: what the fuzzer damages a file of."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np

LISTING = {
    "name": "T", "modality": {"0": "MR"}, "numTraining": 4,
    "training": [{"image": f"./imagesTr/T_000{k}_0000.nii",
                  "label": f"./labelsTr/T_000{k}_0000.nii",
                  "keypoints": f"./keypointsTr/T_000{k}_0000.csv"} for k in range(1, 5)],
    "training_paired_images": [{"fixed": "./imagesTr/T_0001_0000.nii",
                                "moving": "./imagesTr/T_0002_0000.nii"}],
    "registration_val": [{"fixed": "./imagesTr/T_0003_0000.nii",
                          "moving": "./imagesTr/T_0004_0000.nii"}],
    "registration_test": [{"fixed": "./imagesTs/T_0005_0000.nii",
                           "moving": "./imagesTs/T_0006_0000.nii"}],
}  # fmt: skip
SIDES = {
    "acdc/index.json": '{"patient001": {"split": "train"}, "patient002": {"split": "val"}}',
    "acdc/patient001/Info.cfg": "ED: 1\nES: 2\nGroup: DCM\nHeight: 184.0\nNbFrame: 3\n",
    "camus/patient0001/Info_2CH.cfg": "ED: 1\nES: 18\nNbFrame: 18\nImageQuality: Good\nLVef: 56\n",
    "camus/subgroup_training.txt": "patient0001\npatient0002\n",
    "echonet/FileList.csv": "FileName,EF,Split\nv,55.2,TRAIN\nw.avi,40,VAL\n",
    "echonet/VolumeTracings.csv": "FileName,X1,Y1,X2,Y2,Frame\n"
    + "".join(f"{v},{k},2.5,{k + f},9.5,{f}\n" for v in "vw" for f in (3, 9) for k in range(5)),
}
"""Files beside the images of a data set, by their paths."""
VOXELS = "".join(f"{x} {x + 3}\t{x % 90}\n" for x in range(1, 6))
THORAX = (16, 16, 16)


def make_trees(folder: Path) -> None:
    """Folders ``acdc``, ``camus``, … in ``folder/data``, from the images in ``folder``."""
    data = folder / "data"
    volume, map_ = folder / "plain3.nii", folder / "labels.nii"
    for person in ("1000", "1017", "1036", "1002", "1003"):
        _copy(volume, data / f"oasis/{person}/t1.nii")
        _copy(map_, data / f"oasis/{person}/labels.nii")
    for k in range(1, 5):
        _copy(volume, data / f"l2r/imagesTr/T_000{k}_0000.nii")
        _copy(map_, data / f"l2r/labelsTr/T_000{k}_0000.nii")
        _text(data / f"l2r/keypointsTr/T_000{k}_0000.csv", "1,2,3\n0,1.5,2\n")
    _text(data / "l2r/T_dataset.json", json.dumps(LISTING))
    for name in ("Train/subject_1", "Train/subject_2", "Val/subject_3", "Test/subject_4", "atlas"):
        _copy(folder / "arrays4.pkl", data / f"ixi/{name}.pkl")
    for name in ("002-Guys-0828-T1", "002-Guys-0828-T2", "012-HH-1211-T1", "012-HH-1211-T2"):
        _copy(volume, data / f"site/IXI{name}.nii")
    for name in ("ED", "ED_gt", "ES", "ES_gt"):
        _copy(map_, data / f"acdc/patient002/patient002_{name}.nii")
    _copy(folder / "series.nii", data / "acdc/patient001/patient001_4d.nii")
    for person in ("patient0001", "patient0002"):
        for name in ("ED", "ED_gt", "ES", "ES_gt"):
            _copy(folder / "plain2.nii", data / f"camus/{person}/{person}_2CH_{name}.nii")
    for name in "vw":
        _copy(folder / "video.avi", data / f"echonet/Videos/{name}.avi")
    for place, text in SIDES.items():
        _text(data / place, text)
    for phase in ("00", "50"):
        _text(data / f"dirlab/Case1_300_T{phase}_xyz.txt", VOXELS)
    _thorax(folder / "thorax.nii")
    stored = np.arange(4 * 3 * 2, dtype="<i2").tobytes()
    (folder / "stored.img").write_bytes(stored)
    arrays = (np.zeros((4, 3, 2), np.float32), np.ones((4, 3, 2), np.uint8))
    (folder / "brain.pkl").write_bytes(pickle.dumps(arrays, 4))


def _thorax(path: Path) -> None:
    """Two boxes of air in a body, in voxels of 20 mm: lungs."""
    from regtool.imaging.image_write import write_image
    from regtool.spatial.grid import Grid

    values = np.full(THORAX, -1000, np.int16)
    values[:, 2:14, 1:15] = 40
    for x in (slice(2, 7), slice(9, 14)):
        values[4:12, 4:11, x] = -850
    grid = Grid(THORAX, (20.0, 20.0, 20.0), (1, 0, 0, 0, 1, 0, 0, 0, 1), (-150.0, -150.0, -150.0))
    write_image(path, values, grid)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
