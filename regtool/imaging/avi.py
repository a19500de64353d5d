"""Motion-JPEG videos in AVI files: their structure by hand, their frames by Pillow.

Pillow decodes the frames because TensorBoard, which regtool depends on, already brings it: nothing
new is installed. OpenCV would add 150 MB for one codec, and it decodes a video from its start; ITK
reads JPEG from files only, not from memory. An
AVI file is a tree of chunks (Microsoft, "AVI RIFF File Reference"; OpenDML 1.02 for the parts
beyond the first GiB), and each frame of Motion JPEG is a JPEG image of its own, so that one frame
is read without those before it. Frames without Huffman tables, which Motion JPEG allows, are
decoded by libjpeg-turbo with the standard ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from regtool.errors import InputError
from regtool.imaging.volume import HeaderFacts, Volume
from regtool.spatial.grid import Grid

JPEG_START = b"\xff\xd8"
LARGEST = 65535
"""Pixels along an axis of a JPEG image."""
_DEEPEST = 8
_LISTS = (b"hdrl", b"strl", b"movi", b"rec ")


@dataclass
class Video:
    """Where the frames of a video lie in its file.

    ``size`` is (width, height); ``rate`` frames a second, 0 where the header has none. ``frames``
    holds offset and length of every frame; length 0 repeats the frame before.
    """

    path: Path
    size: tuple[int, int] = (0, 0)
    rate: float = 0.0
    codec: bytes = b""
    frames: list[tuple[int, int]] = field(default_factory=list)
    stream: int | None = None
    streams: int = 0
    _stored: list[int] = field(default_factory=list, repr=False)

    def stored(self, number: int) -> int:
        """The frame whose bytes show frame ``number``: itself, or the one that it repeats."""
        if len(self._stored) != len(self.frames):
            self._stored, last = [], 0
            for k, (_, length) in enumerate(self.frames):
                last = k if length else last
                self._stored.append(last)
        return self._stored[number]


def looks_like_avi(head: bytes) -> bool:
    """Whether a file that starts with these bytes is an AVI file."""
    return head[:4] == b"RIFF" and head[8:12] == b"AVI "


def open_video(path: Path) -> Video:
    """The structure of an AVI file's first video stream; no frame is decoded.

    Raises InputError when the file is cut off or holds no Motion JPEG.
    """
    video = Video(path)
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            _walk(file, video, 0, end, 0)
            if not video.frames:
                raise InputError(f"{path}: an AVI file without a frame of video")
            first = next((f for f in video.frames if f[1]), (0, 0))
            file.seek(first[0])
            if file.read(2) != JPEG_START:
                codec = video.codec.decode("ascii", "replace").strip("\0 ") or "unknown"
                raise InputError(
                    f"{path}: the video is not Motion JPEG (codec {codec!a}); convert it, e.g. "
                    "ffmpeg -i IN.avi -c:v mjpeg -q:v 2 OUT.avi"
                )
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not all(1 <= n <= LARGEST for n in video.size):
        raise InputError(
            f"{path}: damaged AVI file: the header says that frames are "
            f"{video.size[0]}×{video.size[1]}"
        )
    return video


def as_volume(video: Video, frame: int | None = None) -> Volume:
    """A frame as a scalar image, or by default all of them as a series, uint8, 2-D.

    AVI has no pixel size: the grid has 1 mm pixels, x to the right and y down as displayed, and
    the units of the header are unknown. Raises as ``decode``.
    """
    values = decode(video, None if frame is None else [frame])
    grid = Grid(video.size, (1.0, 1.0), (1.0, 0.0, 0.0, 1.0), (0.0, 0.0))
    step = 1 / video.rate if video.rate else 1.0
    facts = HeaderFacts("AVI", (*video.size, len(video.frames)), units="unknown", time_step=step)
    if frame is None:
        return Volume(values, grid, "series", path=video.path, header=facts)
    return Volume(values[0], grid, path=video.path, header=facts)


def decode(video: Video, which: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """Frames as grey values (luma, 0 to 255), uint8 (T, height, width); all of them by default.

    Raises IndexError for a frame that is not there, InputError for one that is damaged.
    """
    count = len(video.frames)
    chosen = range(count) if which is None else which
    for number in chosen:
        if not 0 <= number < count:
            raise IndexError(f"{video.path} has frames 0 to {count - 1}, not {number}")
    try:
        with video.path.open("rb") as file:
            return _decoded(video, file, chosen)
    except OSError as error:
        raise InputError(f"{video.path}: cannot be read: {error.strerror or error}") from None


def _decoded(video: Video, file: BinaryIO, chosen: Sequence[int]) -> NDArray[np.uint8]:
    """The frames; one that is repeated is decoded once."""
    out = np.empty((len(chosen), *reversed(video.size)), np.uint8)
    last = -1
    for at, number in enumerate(chosen):
        if at and video.stored(number) == last:
            out[at] = out[at - 1]
            continue
        last = video.stored(number)
        out[at] = _decode_one(video, file, number)
    return out


def _decode_one(video: Video, file: BinaryIO, number: int) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    offset, length = video.frames[video.stored(number)]
    file.seek(offset)
    try:
        with Image.open(BytesIO(file.read(length)), formats=("JPEG",)) as image:
            if image.size != video.size:
                sizes = ["{}×{}".format(*size) for size in (image.size, video.size)]
                raise InputError(
                    f"{video.path}: frame {number} is {sizes[0]}, but the header says {sizes[1]}"
                )
            image.draft("L", image.size)  # the luma alone, without a way through RGB
            return np.asarray(image.convert("L"))
    except UnidentifiedImageError:
        reason = "not a JPEG image"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
    raise InputError(f"{video.path}: frame {number} is damaged ({reason})")


def _chunks(file: BinaryIO, path: Path, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of the chunks between two offsets."""
    at = start
    while at + 8 <= end:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if at + 8 + length > end:
            raise InputError(
                f"{path}: damaged AVI file: it is cut off, or was not finished when written "
                f"(the part at byte {at} claims {length} bytes, {end - at - 8} are left)"
            )
        yield name, at + 8, length
        at += 8 + length + length % 2


def _walk(file: BinaryIO, video: Video, start: int, end: int, depth: int) -> None:
    if depth > _DEEPEST:
        raise InputError(f"{video.path}: damaged AVI file: its lists are nested too deeply")
    for name, at, length in _chunks(file, video.path, start, end):
        if name in (b"RIFF", b"LIST"):
            kind = file.read(4) if length >= 4 else b""
            if kind in ((b"AVI ", b"AVIX") if name == b"RIFF" else _LISTS):
                _walk(file, video, at + 4, at + length, depth + 1)
        elif depth == 0:
            return  # padding behind the video
        elif name == b"strh":
            _stream_header(video, file.read(length))
        elif name == b"strf" and video.stream == video.streams - 1:
            _stream_format(video, file.read(length))
        elif _is_frame(video, name):
            video.frames.append((at, length))


def _is_frame(video: Video, name: bytes) -> bool:
    return video.stream is not None and name in (b"%02ddc" % video.stream, b"%02ddb" % video.stream)


def _stream_header(video: Video, header: bytes) -> None:
    video.streams += 1
    if video.stream is not None or header[:4] != b"vids":
        return
    if len(header) < 28:
        raise InputError(f"{video.path}: damaged AVI file: its stream header is too short")
    video.stream, video.codec = video.streams - 1, header[4:8]
    scale, rate = struct.unpack("<II", header[20:28])
    video.rate = rate / scale if scale else 0.0


def _stream_format(video: Video, header: bytes) -> None:
    if len(header) < 20:
        raise InputError(f"{video.path}: damaged AVI file: its stream format is too short")
    width, height = struct.unpack("<ii", header[4:12])
    video.size, video.codec = (width, abs(height)), header[16:20]
