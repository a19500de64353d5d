"""Motion-JPEG AVI files and an EchoNet-Dynamic in its published layout; everything is generated."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 112


def chunk(name: bytes, content: bytes) -> bytes:
    """A RIFF chunk, padded to an even length."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def listing(kind: bytes, *parts: bytes, name: bytes = b"LIST") -> bytes:
    """A chunk that holds others."""
    return chunk(name, kind + b"".join(parts))


def jpeg(frame: NDArray[np.uint8], quality: int = 95, grey: bool = False) -> bytes:
    """A frame as JPEG, three equal channels as OpenCV writes EchoNet's."""
    stream = BytesIO()
    image = Image.fromarray(frame)
    (image if grey else image.convert("RGB")).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def without_huffman_tables(data: bytes) -> bytes:
    """The JPEG without its DHT segments, as many Motion-JPEG encoders write it."""
    out, at = bytearray(data[:2]), 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            out += data[at : at + length]
        at += length
    return bytes(out) + data[at:]


def headers(
    count: int, size: tuple[int, int], rate: int = 50, codec: bytes = b"MJPG", audio: bool = False
) -> bytes:
    """The list hdrl with one video stream, behind an audio stream if ``audio``."""
    width, height = size
    main = struct.pack("<14I", 10**6 // rate, 0, 0, 16, count, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vids" + codec + struct.pack(
        "<IHHIIIIIIIIhhhh", 0, 0, 0, 0, 1, rate, 0, count, 0, 2**32 - 1, 0, 0, 0, 0, 0
    )  # fmt: skip
    form = struct.pack(
        "<IiiHH4sIiiII", 40, width, height, 1, 24, codec, width * height * 3, 0, 0, 0, 0
    )
    streams = [listing(b"strl", chunk(b"strh", stream), chunk(b"strf", form))]
    if audio:
        sound = b"auds" + struct.pack("<4x2I", 0, 0) + struct.pack("<10I", *[1] * 10)
        streams.insert(
            0, listing(b"strl", chunk(b"strh", sound), chunk(b"strf", b"\1\0" + b"\0" * 16))
        )
    return listing(b"hdrl", chunk(b"avih", main), *streams)


def avi(
    frames: Sequence[bytes], size: tuple[int, int] = (SIZE, SIZE), codec: bytes = b"MJPG"
) -> bytes:
    """A whole AVI file of these JPEG frames, laid out as OpenCV and FFmpeg do, with an index."""
    head = headers(len(frames), size, codec=codec)
    chunks = [chunk(b"00dc", frame) for frame in frames]
    index, at = b"", 4
    for frame, stored in zip(frames, chunks, strict=True):
        index += b"00dc" + struct.pack("<III", 16, at, len(frame))
        at += len(stored)
    parts = (head, chunk(b"JUNK", b"\0" * 37), listing(b"movi", *chunks), chunk(b"idx1", index))
    return listing(b"AVI ", *parts, name=b"RIFF")


def beating(count: int = 12, size: int = SIZE, seed: int = 0) -> tuple[NDArray[Any], list[float]]:
    """Frames (T, size, size) of a dark ellipse that contracts and dilates, and its radius."""
    y, x = np.mgrid[:size, :size]
    texture = np.random.default_rng(seed).normal(0, 4, (size, size))
    radii = [size * (0.2 + 0.06 * np.cos(2 * np.pi * t / count)) for t in range(count)]
    frames = []
    for radius in radii:
        far = np.hypot(x - size * 0.5, (y - size * 0.5) / 1.4)
        image = 150 / (1 + np.exp(radius - far)) + texture + 30
        frames.append(image.clip(0, 255).astype(np.uint8))
    return np.stack(frames), radii


def chords(radius: float, size: int = SIZE, rows: int = 21) -> list[tuple[float, ...]]:
    """A tracing as in VolumeTracings.csv: the long axis, then chords across it."""
    middle = size * 0.5
    lines = [(middle, middle - 1.4 * radius, middle, middle + 1.4 * radius)]
    for y in np.linspace(-0.98, 0.98, rows - 1):
        half = radius * float(np.sqrt(1 - y**2))
        height = middle + 1.4 * radius * float(y)
        lines.append((middle - half, height, middle + half, height))
    return lines


def write_echonet(
    folder: Path, splits: Sequence[str] = ("TRAIN", "VAL", "TEST"), size: int = SIZE
) -> list[str]:
    """An EchoNet-Dynamic with one video for each split; returns the names of the videos."""
    (folder / "Videos").mkdir(parents=True)
    listed = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    traced = ["FileName,X1,Y1,X2,Y2,Frame"]
    names = []
    for number, split in enumerate(splits):
        name = f"0X{number + 0xA100B:X}"
        frames, radii = beating(seed=number, size=size)
        (folder / "Videos" / f"{name}.avi").write_bytes(
            avi([jpeg(f) for f in frames], (size, size))
        )
        listed.append(f"{name},60.5,40.1,101.2,{size},{size},50,{len(frames)},{split}")
        for frame in (6, 0):
            for ends in chords(radii[frame], size):
                traced.append(f"{name}.avi,{','.join(f'{v:.4f}' for v in ends)},{frame}")
        names.append(name)
    (folder / "FileList.csv").write_text("\n".join(listed) + "\n")
    (folder / "VolumeTracings.csv").write_text("\n".join(traced) + "\n")
    return names
