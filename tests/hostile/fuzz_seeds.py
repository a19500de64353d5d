"""Sound inputs, tiny, made by regtool itself: what the fuzzer damages."""

from __future__ import annotations

import io
import json
import pickle
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_seeds_data import make_trees

SIZE2, SIZE3 = (10, 8), (6, 5, 4)
METHOD, STEPS = "optimise", "iterations=2,1"


@dataclass
class Seeds:
    """A folder of sound files, and the same as bytes by name."""

    folder: Path
    bytes: dict[str, bytes] = field(default_factory=dict)

    def of(self, *suffixes: str) -> list[bytes]:
        """All files whose names end so."""
        return [data for name, data in self.bytes.items() if name.endswith(suffixes)]

    def record(self) -> dict[str, Any]:
        """The record of the registration ``pair_``."""
        found: dict[str, Any] = json.loads(self.bytes["pair_regtool.json"])
        return found

    def config(self) -> dict[str, Any]:
        """config.json of the weights."""
        found: dict[str, Any] = json.loads(self.bytes["weights/config.json"])
        return found


def make_seeds(folder: Path) -> Seeds:
    """Write the seeds into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _images(folder)
    _transforms(folder)
    _texts(folder)
    _registration(folder)
    make_weights(folder / "weights")
    _training(folder)
    make_trees(folder)
    seeds = Seeds(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            seeds.bytes[path.relative_to(folder).as_posix()] = path.read_bytes()
    return seeds


def _grids() -> tuple[Any, Any]:
    from regtool.spatial.grid import Grid

    c, s = np.cos(0.3), np.sin(0.3)
    two = Grid(SIZE2, (1.5, 2.0), (c, -s, s, c), (10.0, -20.0))
    three = Grid(SIZE3, (1.0, 1.5, 3.0), (c, -s, 0, s, c, 0, 0, 0, 1), (1.0, 2.0, 3.0))
    return two, three


def _blob(shape: tuple[int, ...], at: float) -> np.ndarray:
    axes = np.meshgrid(*[np.arange(n) - n * at for n in shape], indexing="ij")
    return (100 * np.exp(-sum(a**2 for a in axes) / 9)).astype(np.float32)


def _images(folder: Path) -> None:
    from regtool.imaging.image_write import write_image

    two, three = _grids()
    write_image(folder / "fixed.nii.gz", _blob(two.shape, 0.5), two)
    write_image(folder / "moving.nii.gz", _blob(two.shape, 0.4), two)
    write_image(folder / "plain2.nii", _blob(two.shape, 0.5), two)
    write_image(folder / "plain3.nii", (_blob(three.shape, 0.5)).astype(np.int16), three)
    write_image(folder / "labels.nii", (_blob(three.shape, 0.5) > 50).astype(np.uint8), three)
    series = np.stack([_blob(three.shape, 0.3 + 0.1 * k) for k in range(3)])
    write_image(folder / "series.nii", series, three, kind="series")
    colour = np.zeros((*two.shape, 3), np.uint8)
    write_image(folder / "colour.nii", colour, two, kind="rgb")
    for suffix in ("mha", "nrrd"):
        write_image(folder / f"plain.{suffix}", _blob(three.shape, 0.5), three)
    (folder / "raw.mha").write_bytes(_raw_mha())
    (folder / "raw.nrrd").write_bytes(_raw_nrrd())
    (folder / "nifti2.nii").write_bytes(_nifti2(folder / "plain3.nii"))
    (folder / "video.avi").write_bytes(make_video())
    arrays = (_blob(three.shape, 0.5), (_blob(three.shape, 0.5) > 50).astype(np.int64))
    for protocol in (0, 2, 4, 5):
        (folder / f"arrays{protocol}.pkl").write_bytes(pickle.dumps(arrays, protocol))


def _raw_mha() -> bytes:
    head = ("ObjectType = Image\nNDims = 2\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            "CompressedData = False\nTransformMatrix = 1 0 0 1\nOffset = 0 0\n"
            "ElementSpacing = 1 1\nDimSize = 4 4\nElementType = MET_UCHAR\n"
            "ElementDataFile = LOCAL\n")  # fmt: skip
    return head.encode() + bytes(range(16))


def _raw_nrrd() -> bytes:
    head = ("NRRD0004\ntype: uchar\ndimension: 2\nspace dimension: 2\nsizes: 4 4\n"
            "space directions: (1,0,0) (0,1,0)\nkinds: domain domain\nencoding: raw\n"
            "space origin: (0,0,0)\n\n")  # fmt: skip
    return head.encode() + bytes(range(16))


def _nifti2(one: Path) -> bytes:
    import nibabel as nib

    image = nib.load(one)
    second = nib.Nifti2Image(np.asanyarray(image.dataobj), image.affine)
    return bytes(second.to_bytes())


def make_video() -> bytes:
    """Three frames of Motion JPEG, 16 by 12, one of them the repeat of the one before."""
    from PIL import Image

    jpegs = []
    for k in range(2):
        stream = io.BytesIO()
        Image.fromarray((_blob((12, 16), 0.4 + 0.1 * k) * 2).astype(np.uint8)).save(stream, "JPEG")
        jpegs.append(stream.getvalue())

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    strh = b"vidsMJPG" + bytes(12) + struct.pack("<II", 1, 25) + bytes(28)
    strf = struct.pack("<IiiHH4s", 40, 16, 12, 1, 24, b"MJPG") + bytes(20)
    strl = chunk(b"LIST", b"strl" + chunk(b"strh", strh) + chunk(b"strf", strf))
    hdrl = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + strl)
    frames = [chunk(b"00dc", jpegs[0]), chunk(b"00dc", b""), chunk(b"00dc", jpegs[1])]
    return chunk(b"RIFF", b"AVI " + hdrl + chunk(b"LIST", b"movi" + b"".join(frames)))


def _transforms(folder: Path) -> None:
    import SimpleITK as sitk

    from regtool.imaging.transforms import write_affine, write_composite, write_field

    for grid, name in zip(_grids(), ("2", "3"), strict=True):
        n = grid.ndim
        bend = np.stack([0.3 * np.sin(_blob(grid.shape, 0.5) / 20)] * n, -1)
        matrix = np.eye(n + 1)
        matrix[:-1, :-1] += 0.05
        matrix[:-1, -1] = 1.5
        write_field(folder / f"field{name}.nii", bend, grid)
        write_field(folder / f"field{name}.nii.gz", bend, grid)
        write_affine(folder / f"affine{name}.mat", matrix)
        write_affine(folder / f"affine{name}.txt", matrix)
        write_composite(folder / f"chain{name}.h5", matrix, bend, grid)
    sitk.WriteTransform(sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3), str(folder / "euler.tfm"))
    spline = sitk.BSplineTransform(2, 3)
    sitk.WriteTransform(spline, str(folder / "spline.tfm"))


def _texts(folder: Path) -> None:
    texts = {
        "pairs.csv": "fixed,moving,fixed_labels,name,split,subject\n"
        "fixed.nii.gz,moving.nii.gz,labels.nii,one,train,s1\n"
        '"moving.nii.gz",fixed.nii.gz,,two,val,s2\n',
        "evaluate.csv": "record,fixed,run\npair_regtool.json,fixed.nii.gz,ours\n"
        "pair_regtool.json,,theirs\n",
        "names.csv": "label,name\n1,LV\n2,RV\n3,Myo\n",
        "freesurfer.txt": "# No. Name R G B A\n0 Unknown 0 0 0 0\n2 Left-White 245 245 245 0\n",
        "snap.txt": '    0     0    0    0        0  0  0    "Clear Label"\n'
        '    1   255    0    0        1  1  1    "Label 1"\n',
        "points.csv": "x,y,z,label,comment\n1.5,-2,3,apex,\n4,5,6,base,seen\n",
        "flat.csv": "x;y\n1;2\n3;4\n",
        "points.fcsv": "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        "1,1.0,2.0,3.0,0,0,0,1,1,1,0,F-1,,\n",
        "tracings.csv": "FileName,X1,Y1,X2,Y2,Frame\n"
        + "".join(f"v.avi,{k},2.5,{k + 4},9.5,{f}\n" for f in (3, 9) for k in range(5)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _registration(folder: Path) -> None:
    from regtool.engine.register import register

    register(
        folder / "fixed.nii.gz", folder / "moving.nii.gz", METHOD, output=str(folder / "pair_"),
        settings=[STEPS], inverse=True, composite=True, threads=1, device="cpu",
    )  # fmt: skip


def network() -> dict[str, int | str]:
    """Settings of the smallest VoxelMorph."""
    return {"variant": "1", "width": 1}


@cache
def _state() -> bytes:
    import torch
    from safetensors.torch import save

    from regtool.plugins import discovery

    torch.manual_seed(0)
    method = discovery.load("voxelmorph")
    build = discovery.resolve_import(method.model, "model")
    module = build({"ndim": 2, "network": network()})
    return save({k: v.half() for k, v in module.state_dict().items()}, {"format": "pt"})


def make_weights(folder: Path) -> None:
    """Weights of the smallest VoxelMorph."""
    folder.mkdir()
    config = {
        "schema": 1, "method": "voxelmorph", "api": 1, "name": "tiny", "ndim": 2,
        "preset": "acdc-2d", "network": network(),
        "preparation": {"spacing": [None, None], "size": [32, 32], "anchor": "motion",
                        "intensity": [{"kind": "percentile", "low": 0.5, "high": 99.5},
                                      {"kind": "zscore", "limit": 3.0}]},
        "options": {"passes": 2}, "anatomy": "heart", "modality": "MR", "licence": "CC0",
        "training": {},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "model.safetensors").write_bytes(_state())
    (folder / "README.md").write_text("# tiny\n")


def _training(folder: Path) -> None:
    from dataclasses import asdict

    import torch

    from regtool.engine.training.checkpoint import save_checkpoint
    from regtool.engine.training.settings import RunSettings, plain, write_settings
    from regtool.engine.training.state import State
    from regtool.plugins import discovery

    preset = plain(discovery.load("voxelmorph").presets["acdc-2d"])
    settings = RunSettings(
        schema=1, method="voxelmorph", preset_name="acdc-2d", preset=preset, data=["pairs.csv"]
    )
    write_settings(folder / "settings.json", settings)
    parts = {"model": {"a.weight": torch.zeros(2, 3)}, "optimiser0": {"0/step": torch.tensor(3.0)}}
    save_checkpoint(folder / "checkpoint.safetensors", parts, asdict(State("main", step=3)))
