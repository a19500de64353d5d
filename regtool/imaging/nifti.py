"""NIfTI on the level of bytes: one checked pass over the file, and headers for writing."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.errors import GeometryError, InputError, OutputError
from regtool.memory import machine_memory
from regtool.spatial.grid import Grid

GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_LIMIT = 1032
"""No deflate stream expands by more than this factor (zlib's technical notes)."""
_CHUNK = 1 << 16
_HEADER_BYTES = 544
_GEOMETRY_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
    "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units", "pixdim",
)  # fmt: skip
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FARTHEST = 1e9
"""Largest coordinate or voxel size, in the header's unit, that is taken seriously."""
NEAREST = 1e-9
"""Smallest voxel size that is."""
SHEAR = 1e-3
"""How far cosines between axes may be from those of right angles: by rounding, in text files."""


@dataclass(frozen=True)
class RawNifti:
    """A NIfTI file as stored: its header, and its values in C order, axes reversed (..., z, y, x).

    For RGB files the values have a last axis of 3 or 4 components.
    """

    header: Any
    values: NDArray[Any]


def starts_like_nifti(head: bytes) -> bool:
    """Whether these first bytes (348 or more) are a single-file NIfTI header."""
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file, decompressed when it is gzip, enough for any NIfTI header."""
    with path.open("rb") as stream:
        head = b""
        for piece in _pieces(path, stream):
            head += piece
            if len(head) >= _HEADER_BYTES:
                break
        return head[:_HEADER_BYTES]


def load(path: Path) -> RawNifti:
    """Read a NIfTI-1 or NIfTI-2 file (plain or gzip, by its first bytes) in one pass.

    The gzip checksum is verified to the end of the file, and the size that the header claims is
    held against the file and the machine's memory before anything is allocated.
    Raises InputError, naming the file, when anything is missing, damaged or unknown.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
        stream.seek(0)
        pieces = _pieces(path, stream)
        head = bytearray()
        for piece in pieces:
            head += piece
            if len(head) >= _HEADER_BYTES:
                break
        header = _header(path, bytes(head))
        dtype = _storage_type(path, header)
        shape = stored_shape(path, header)
        start = data_offset(header)
        stored = shape[::-1] + _components(header)
        wanted = dtype.itemsize * _product(stored)
        _check_claim(path, shape, start + wanted, size * (DEFLATE_LIMIT if packed else 1))
        data = _collect(path, bytes(head), pieces, start, wanted)
    values = data.view(dtype).reshape(stored)
    if not dtype.isnative:
        values = values.astype(dtype.newbyteorder("="))
    return RawNifti(header, values)


def _pieces(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    """The content of a plain or gzip file in pieces; raises InputError on a damaged stream."""
    first = stream.read(_CHUNK)
    if not first.startswith(GZIP_MAGIC):
        while first:
            yield first
            first = stream.read(1 << 22)
        return
    unpack = zlib.decompressobj(31)
    chunk = first
    try:
        while chunk or (chunk := stream.read(_CHUNK)):
            if unpack.eof:  # members may follow one another; other trailing bytes are padding
                if not chunk.startswith(GZIP_MAGIC):
                    return
                unpack = zlib.decompressobj(31)
            piece = unpack.decompress(chunk)
            chunk = unpack.unused_data
            if piece:
                yield piece
    except zlib.error as error:
        raise InputError(
            f"{path}: the gzip data is corrupt ({error}); fetch or export the file again"
        ) from None
    if not unpack.eof:
        raise InputError(f"{path}: the file is truncated (gzip ends early); fetch it again")


def _header(path: Path, head: bytes) -> Any:
    if not starts_like_nifti(head):
        raise InputError(f"{path}: not a NIfTI file (no NIfTI header inside)")
    two = head[4:8] == b"n+2\0"
    kind = nib.Nifti2Header if two else nib.Nifti1Header
    if len(head) < (540 if two else 348):
        raise InputError(f"{path}: the file is truncated inside its header; fetch it again")
    return kind(head[: 540 if two else 348], check=False)


def _storage_type(path: Path, header: Any) -> np.dtype[Any]:
    """The stored number type in the file's byte order; of one component for RGB."""
    code = int(header["datatype"])
    known = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
             1024: "i8", 1280: "u8", 128: "u1", 2304: "u1"}  # fmt: skip
    if code in (32, 1792, 2048):
        raise InputError(f"{path}: complex values; save the magnitude or one part as real numbers")
    if code not in known:
        raise InputError(f"{path}: unsupported NIfTI data type code {code}; convert to float32")
    return np.dtype(header.endianness + known[code])


def _components(header: Any) -> tuple[int, ...]:
    return {128: (3,), 2304: (4,)}.get(int(header["datatype"]), ())


def stored_shape(path: Path, header: Any) -> tuple[int, ...]:
    """The shape on disk (X, Y, ...), trailing axes of length 1 included."""
    dim = [int(d) for d in header["dim"]]
    if not 1 <= dim[0] <= 7 or any(d < 1 for d in dim[1 : dim[0] + 1]):
        raise InputError(f"{path}: impossible image size {dim[1 : max(dim[0], 0) + 1]} in header")
    return tuple(dim[1 : dim[0] + 1])


def data_offset(header: Any) -> int:
    """Where the values start in the file, bytes."""
    least = 544 if int(header["sizeof_hdr"]) == 540 else 352
    offset = float(header["vox_offset"])
    return max(int(offset), least) if np.isfinite(offset) else least


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _check_claim(path: Path, shape: tuple[int, ...], wanted: int, available: int) -> None:
    size = "×".join(str(n) for n in shape)
    if wanted > available:
        raise InputError(
            f"{path}: the file is truncated or its header is wrong: {size} voxels need {wanted} "
            f"bytes, the file can hold {available} at most"
        )
    check_memory(path, size, wanted)


def check_memory(path: Path, size: str, wanted: int) -> None:
    """Refuse an image that is larger than the machine's memory; raises InputError."""
    memory = machine_memory()
    if wanted > memory:
        raise InputError(
            f"{path}: {size} voxels need {wanted / 2**30:.1f} GiB; this machine has "
            f"{memory / 2**30:.1f} GiB"
        )


def _collect(
    path: Path, head: bytes, pieces: Iterator[bytes], start: int, wanted: int
) -> NDArray[np.uint8]:
    """Gather ``wanted`` bytes from offset ``start``, reading the stream to its very end."""
    data = np.empty(wanted, dtype=np.uint8)
    at, filled = 0, 0
    piece = head
    while True:
        skip = max(start - at, 0)
        if skip < len(piece) and filled < wanted:
            part = np.frombuffer(piece, dtype=np.uint8)[skip : skip + wanted - filled]
            data[filled : filled + part.size] = part
            filled += part.size
        at += len(piece)
        following = next(pieces, None)
        if following is None:
            break
        piece = following
    if filled < wanted:
        raise InputError(
            f"{path}: the file is truncated: {filled} of {wanted} bytes of image data are there; "
            "fetch or export it again"
        )
    return data


def itk_grid(path: Path, header: Any, size: tuple[int, ...]) -> Grid:
    """The grid as ITK reads it from this header: LPS mm, ``size`` in order (x, y[, z]).

    ITK is handed only the header, as a file of its own, so that names, compression and the
    number of frames or components make no difference.
    Raises GeometryError when ITK refuses the orientation (shear) or the spacing is not positive.
    """
    for n, step in zip(size, np.asarray(header["pixdim"], dtype=float)[1:], strict=False):
        if n > 1 and not (np.isfinite(step) and step > 0):  # ITK would silently take 1 mm
            raise GeometryError(f"{path}: voxel size {step:g} in the header; it must be positive")
        if n > 1 and not NEAREST <= step <= FARTHEST:
            raise GeometryError(f"{path}: voxel size {step:g} in the header; that is no image")
    _check_forms(path, header)
    plain = nib.Nifti1Header()
    plain.set_data_dtype(np.uint8)
    plain.set_data_shape((2,) * len(size))
    for name in _GEOMETRY_FIELDS:
        plain[name] = header[name]
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    with tempfile.NamedTemporaryFile(suffix=".nii", buffering=0) as file:
        plain["vox_offset"] = 352
        try:
            left = memoryview(plain.binaryblock + b"\0" * (4 + 2 ** len(size)))
            while left:
                left = left[file.write(left) :]
        except OSError as error:  # the image is not to blame
            raise OutputError(f"{file.name}: cannot be written: {error.strerror}") from error
        reader.SetFileName(file.name)
        loud = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _itk_refusal(path, str(error)) from None
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(loud)
    spacing = tuple(float(s) for s in reader.GetSpacing())
    grid = Grid(tuple(size), spacing, tuple(reader.GetDirection()), tuple(reader.GetOrigin()))
    check_grid(path, grid)
    return grid


def _check_forms(path: Path, header: Any) -> None:
    """Refuse numbers in the orientation that are none: ITK's SVD would never end with them."""
    for form, names in (
        ("sform", ("srow_x", "srow_y", "srow_z")),
        ("qform", ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")),
    ):
        values = np.concatenate([np.atleast_1d(header[name]).astype(float) for name in names])
        if header[f"{form}_code"] > 0 and not (np.abs(values) <= FARTHEST).all():
            raise GeometryError(
                f"{path}: the {form} in the header holds numbers that are no orientation "
                f"(such as {values[~(np.abs(values) <= FARTHEST)][0]:g})"
            )


def check_grid(path: Path, grid: Grid) -> None:
    """Raise GeometryError for a grid that is not finite, or whose axes are no right angles."""
    numbers = (*grid.spacing, *grid.direction, *grid.origin)
    if not np.isfinite(numbers).all() or min(grid.spacing) <= 0:
        raise GeometryError(f"{path}: its geometry holds numbers that are none")
    cosines = grid.direction_matrix
    if np.abs(cosines.T @ cosines - np.eye(grid.ndim)).max() > SHEAR:
        raise GeometryError(
            f"{path}: the orientation is sheared or singular (its axes are not orthonormal); "
            "resample the image to a rectangular grid first"
        )


def _itk_refusal(path: Path, message: str) -> InputError:
    if "orthonormal" in message:
        return GeometryError(
            f"{path}: the header's orientation is sheared or singular (its axes are not "
            "orthonormal), which ITK refuses; resample the image to a rectangular grid first"
        )
    last = message.strip().splitlines()[-1].strip()
    return InputError(f"{path}: ITK cannot read the header: {last}")
