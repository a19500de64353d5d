"""What fuzzing has found, each as a file of its own: refused in a sentence, at once."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from fuzz_seeds import make_video

from regtool.data.pairs_table import read_pairs
from regtool.engine.chain import read_chain
from regtool.engine.evaluate.names import read_names
from regtool.errors import GeometryError, InputError, OutputError, RegtoolError, UsageError
from regtool.imaging.image_write import write_image
from regtool.imaging.points import read_points
from regtool.imaging.reading import read_image
from regtool.imaging.transforms import read_affine, read_transforms, write_affine, write_composite
from regtool.imaging.writing import Outputs
from regtool.record import read_record, sha256
from regtool.spatial.grid import Grid

GRID = Grid((6, 5, 4), (1.0, 1.5, 3.0), (1, 0, 0, 0, 1, 0, 0, 0, 1), (1.0, 2.0, 3.0))


def nifti(path: Path, **fields: object) -> Path:
    """A small volume whose header has some fields replaced."""
    write_image(path, np.ones(GRID.shape, np.float32), GRID)
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + data[348:])
    return path


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 1e30])
@pytest.mark.parametrize("row", ["srow_x", "srow_y", "srow_z"])
def test_orientation_that_is_none(tmp_path: Path, row: str, odd: float) -> None:
    """ITK's decomposition of such a matrix does not end."""
    with pytest.raises(GeometryError, match=r"in\.nii"):
        read_image(nifti(tmp_path / "in.nii", **{row: [1, odd, 0, 0]}))


@pytest.mark.parametrize("odd", [1e-30, 1e30])
def test_voxel_sizes_beyond_belief(tmp_path: Path, odd: float) -> None:
    with pytest.raises(GeometryError, match="voxel size"):
        read_image(nifti(tmp_path / "in.nii", pixdim=[1, odd, 1, 1, 1, 1, 1, 1]))


def test_unknown_orientation_code_is_written_as_a_known_one(tmp_path: Path) -> None:
    image = read_image(nifti(tmp_path / "in.nii", sform_code=32767))
    write_image(tmp_path / "out.nii", image.array, image.grid, like=image)
    assert read_image(tmp_path / "out.nii").header.sform_code == 2


def test_damaged_extension_is_not_read(tmp_path: Path) -> None:
    file = nifti(tmp_path / "in.nii", vox_offset=400)
    data = file.read_bytes()
    extension = b"\1\0\0\0" + struct.pack("<ii", 10**6, 6) + bytes(40)
    file.write_bytes(data[:348] + extension + data[352:])
    assert read_image(file).array.shape == GRID.shape


@pytest.mark.parametrize(
    "header",
    [
        "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 1000000 1000000\nencoding: raw\n\n",
        "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 100000 100000\nencoding: gzip\n\n",
        "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\n" + "{" * 3000 + "\n\n",
        "NRRD0004\ntype: block\ndimension: 2\nsizes: 2 2\nencoding: raw\n\n",
        "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 -2\nencoding: raw\n\n",
        "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nspace directions: (nan,0)\n\n",
        "NDims = 2\nDimSize = 1000000 1000000\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
        "NDims = 2\nDimSize = 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
        "NDims = 99\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
        "NDims = 2\nDimSize = 2 2\nElementType = MET_OTHER\nElementDataFile = LOCAL\n",
        "NDims = 2\nDimSize = 2 2\nOffset = inf 0\nElementType = MET_UCHAR\n"
        "ElementDataFile = LOCAL\n",
        "NDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\n",
    ],
)
def test_text_headers(tmp_path: Path, header: str) -> None:
    """A line of 3000 characters overflowed a buffer of ITK's; sizes were allocated unseen."""
    file = tmp_path / ("in.nrrd" if header.startswith("NRRD") else "in.mha")
    file.write_bytes(header.encode() + bytes(4))
    with pytest.raises(InputError, match=r"in\."):
        read_image(file)


def level4(name: bytes, values: list[float], rows: int | None = None, kind: int = 0) -> bytes:
    """A matrix as Matlab's Level 4 has it, with the sizes that are claimed."""
    head = struct.pack("<5i", kind, len(values) if rows is None else rows, 1, 0, len(name) + 1)
    return head + name + b"\0" + struct.pack(f"<{len(values)}d", *values)


AFFINE = [1.0, 0, 0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "data",
    [
        level4(b"AffineTransform_double_2_2", AFFINE, rows=10**6),
        level4(b"AffineTransform_double_2_2", AFFINE, rows=-1),
        level4(b"AffineTransform_double_2_2", AFFINE[:5]),
        level4(b"AffineTransform_double_2_2", AFFINE) + level4(b"fixed", [0.0] * 6),
        level4(b"AffineTransform_double_2_2", [np.nan, *AFFINE[1:]]),
        level4(b"AffineTransform_double_2_2", AFFINE)[:-3],
        level4(b"fixed", [0.0, 0.0]),
        level4(b"A" * 300, AFFINE),
        level4(b"AffineTransform_double_2_2", AFFINE, kind=7),
        b"",
    ],
)
def test_matlab_files(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a.mat"
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mat"):
        read_affine(file)


def test_sound_matlab_files(tmp_path: Path) -> None:
    whole = level4(b"MatrixOffsetTransformBase_double_2_2", AFFINE) + level4(b"fixed", [5.0, 6.0])
    (tmp_path / "a.mat").write_bytes(whole)
    itk = sitk.ReadTransform(str(tmp_path / "a.mat"))
    found = read_affine(tmp_path / "a.mat", 2) @ [7.0, 8.0, 1.0]
    assert np.allclose(found[:2], itk.TransformPoint((7.0, 8.0)), rtol=0, atol=1e-12)


HEAD = "#Insight Transform File V1.0\n#Transform 0\n"


@pytest.mark.parametrize(
    "text",
    [
        "Transform: AffineTransform_double_2_2\n0\nFixedParameters: 0 0\n",
        "Transform: AffineTransform_double_2_2\nParameters: 1 0 0 1 2\nFixedParameters: 0 0\n",
        "Transform: AffineTransform_double_2_2\nParameters: 1 0 0 1 2 x\nFixedParameters: 0 0\n",
        "Transform: AffineTransform_double_2_2\nParameters: 1 0 0 1 2 1e999\n",
        "Transform: NoTransform_double_2_2\nParameters: 1\n",
        "Parameters: 1 0 0 1 2 3\n",
        "",
        2 * "Transform: TranslationTransform_double_2_2\nParameters: 1 2\nFixedParameters:\n",
    ],
)
def test_text_transforms(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.tfm"
    file.write_text(HEAD + text)
    with pytest.raises(InputError, match=r"a\.tfm"):
        read_affine(file)


def test_linear_composite_in_text(tmp_path: Path) -> None:
    whole = sitk.CompositeTransform(3)
    whole.AddTransform(sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (4, 5, 6)))
    whole.AddTransform(sitk.TranslationTransform(3, (1.0, 0.0, -1.0)))
    sitk.WriteTransform(whole, str(tmp_path / "a.tfm"))
    found = read_affine(tmp_path / "a.tfm") @ [3.0, -2.0, 1.0, 1.0]
    assert np.allclose(found[:3], whole.TransformPoint((3.0, -2.0, 1.0)), rtol=0, atol=1e-12)


def test_damaged_composites_do_not_end_the_process(tmp_path: Path) -> None:
    """ITK's reader of HDF5 follows pointers out of the file; it runs in a process of its own."""
    file = tmp_path / "c.h5"
    write_composite(file, np.eye(4), np.zeros((*GRID.shape, 3)), GRID)
    assert len(read_transforms(file)) == 2
    data = file.read_bytes()
    assert b"GCOL" in data  # where HDF5 keeps texts of any length, here the classes' names
    file.write_bytes(data.replace(b"GCOL", b"XCOL"))
    with pytest.raises(InputError, match=r"c\.h5"):
        read_transforms(file)


def test_affine_without_an_inverse(tmp_path: Path) -> None:
    write_affine(tmp_path / "a.mat", np.diag([1.0, 0.0, 1.0]))
    with pytest.raises(GeometryError, match="singular"):
        read_chain([f"[{tmp_path / 'a.mat'},1]"])


@pytest.mark.parametrize(
    "name", ["~nobody-of-this-name/x.nii", "a" * 300, "a/" * 3000, "a\0b", "~\0/b"]
)
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for read in (read_image, read_affine, read_record, read_names, read_points, read_pairs):
        with pytest.raises(InputError):
            read(name)
    table = tmp_path / "t.csv"
    table.write_text(f"fixed,moving\n{name},{name}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        read_pairs(table)
    if not name.startswith("~"):
        with pytest.raises(OutputError):
            Outputs(str(tmp_path / name), ["Warped.nii.gz"])


def test_devices_are_no_files(tmp_path: Path) -> None:
    """A record may name /dev/zero, whose end nobody sees."""
    for read in (read_image, read_record, lambda path: sha256(Path(path))):
        with pytest.raises(InputError):
            read("/dev/zero")


def test_cells_without_end(tmp_path: Path) -> None:
    long, number = "x" * 200_000, "9" * 5000
    (tmp_path / "names.csv").write_text(f"label,name\n1,{long}\n")
    (tmp_path / "numbers.csv").write_text(f"label,name\n{number},LV\n")
    (tmp_path / "points.csv").write_text(f"x,y\n1,{long}\n")
    for name in ("names.csv", "numbers.csv"):
        with pytest.raises(InputError, match=name):
            read_names(tmp_path / name)
    with pytest.raises(InputError, match="line 2"):
        read_points(tmp_path / "points.csv")


def test_video_of_many_repeated_frames(tmp_path: Path) -> None:
    """Finding what each of 60,000 frames repeats took the square of their number."""
    data = make_video()
    more = data + b"00dc\0\0\0\0" * 60_000
    at = more.index(b"movi") - 4
    more = more[:at] + struct.pack("<I", len(more) - at - 4) + more[at + 4 :]
    (tmp_path / "v.avi").write_bytes(more[:4] + struct.pack("<I", len(more) - 8) + more[8:])
    video = read_image(tmp_path / "v.avi", ("series",))
    assert video.frames == 60_003
    assert (video.array[1] == video.array[0]).all() and (video.array[2] == video.array[-1]).all()


def record(folder: Path, **parts: object) -> Path:
    """A registration of nothing whose record says some things."""
    write_affine(folder / "0GenericAffine.mat", np.eye(4))
    outputs = {"0GenericAffine.mat": {"file": "0GenericAffine.mat"}}
    content = {"schema": 1, "kind": "registration", "outputs": outputs, **parts}
    (folder / "regtool.json").write_text(json.dumps(content))
    return folder / "regtool.json"


@pytest.mark.parametrize(
    "grid",
    [
        {"size": [10**6] * 3},
        {"size": [4, 4, 0]},
        {"size": [4, 4, True]},
        {"size": [4] * 7},
        {"size": "444"},
        {"spacing": [0, 1, 1]},
        {"spacing": [1, 1, None]},
        {"origin": [1e999, 0, 0]},
        {"direction": [0] * 9},
    ],
)
def test_grid_that_a_record_claims(tmp_path: Path, grid: dict[str, object]) -> None:
    sound = {"size": [4, 4, 4], "spacing": [1, 1, 1], "origin": [0, 0, 0],
             "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1]}  # fmt: skip
    with pytest.raises(InputError):
        read_chain([str(record(tmp_path, moving=sound | grid))], inverse=True)


def test_record_may_not_name_what_is_removed(tmp_path: Path) -> None:
    """Overwriting removes what an earlier record lists: plain files beside it, nothing else."""
    from regtool.engine.request import Request, read_inputs
    from regtool.engine.results import Plan

    out = tmp_path / "out"
    (out / "folder").mkdir(parents=True)
    (tmp_path / "precious").write_text("here")
    names = ["../precious", "..", ".", "", "folder", str(tmp_path / "precious"), "a\0b", "Old.csv"]
    (out / "Old.csv").write_text("1")
    record(out, outputs={name: {"file": name} for name in names})
    for name in ("fixed", "moving"):
        nifti(tmp_path / f"{name}.nii")
    request = Request(tmp_path / "fixed.nii", tmp_path / "moving.nii", "optimise", f"{out}/",
                      overwrite=True)  # fmt: skip
    with Plan(request, read_inputs(request)).open() as outputs:
        outputs.text("Warped.nii.gz", "new")
    assert (tmp_path / "precious").read_text() == "here" and (out / "folder").is_dir()
    assert not (out / "Old.csv").exists()


def test_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    plain = nifti(tmp_path / "in.nii").read_bytes()
    (tmp_path / "in.nii.gz").write_bytes(gzip.compress(plain + bytes(10**7), 9))
    assert read_image(tmp_path / "in.nii.gz").array.nbytes == 4 * 120


def test_text_of_options() -> None:
    from regtool.engine.training.settings import apply_overrides

    for text in ("steps=" + "(" * 5000, "steps=" + "9" * 5000, "steps=" + "[" * 300 + "]" * 300):
        with pytest.raises((UsageError, RegtoolError)):
            apply_overrides({"training": {"steps": 3}}, [text])
