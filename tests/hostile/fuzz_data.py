"""Targets: ``--data``, and the files of data sets that are no images of a common form."""

from __future__ import annotations

import functools
import json
import os
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz_images import ONE
from fuzz_mutation import damaged, header_fields, lines, phrase, tree
from fuzz_options import text
from fuzz_seeds import Seeds
from fuzz_seeds_data import LISTING, SIDES, VOXELS
from fuzz_target import Target

from regtool.data import breathing, dirlab, phantom_files
from regtool.data.breathing_ct import read_thorax
from regtool.data.cases import PairCase, Raw
from regtool.data.loading import load_image, load_labels, load_points
from regtool.data.raw import read_raw
from regtool.data.readers import open_data
from regtool.data.voxel_points import read_voxels
from regtool.plugins import readers

SPECS = (
    "pairs.csv", "pairs:pairs.csv", "phantom:heart2d?n=1&size=16", "phantom:brain?seed=3&n=2",
    "acdc:data/acdc", "camus:data/camus?view=2CH&quality=good&split=paper", "echonet:data/echonet",
    "oasis:data/oasis?n=3&val=2&seed=1&labels=tissues&split=val", "oasis:data/l2r?n=all",
    "learn2reg:data/l2r?n=100&val=30&masks=yes&points=none", "ixi:data/ixi?pairs=random&n=1&test=1",
    "learn2reg:data/l2r/T_dataset.json?split=train", "ixi:data/ixi?nifti=out/copies&labels=none",
    "ixi:data/site?images=T1-T2&pairs=same&val=all", "dirlab:data/dirlab?fold=1&folds=5&check=warn",
    "dirlab:data/dirlab?check=strict&offset=1024&split=test", "weights",
    "breathing:phantom?n=8&seed=0&family=diaphragm+sliding&spacing=4&mark=train&landmarks=300",
    "breathing:thorax.nii?n=1&family=general&spacing=20&margin=30",
)  # fmt: skip
FEW, SMALL = 2, 32
"""Pairs and pixels a side of phantoms that are made."""
FORMS = (
    Raw((4, 3, 2), (1.0, 1.0, 2.5)), Raw((2, 3, 4), (1.0, 2.0, 3.0), "LPI", 1024, -1024),
    Raw((4, 3, 2), (1.0, 1.0, 1.0), "RAS", 32767, -1024), Raw((24, 1, 1), (1.0, 1.0, 1.0)),
)  # fmt: skip
LANDMARKS = Path("data/dirlab/Case1_300_T00_xyz.txt")
TREES = ("acdc/index.json", "acdc/patient001/Info.cfg", "acdc/patient001/patient001_4d.nii",
         *(f"acdc/patient002/patient002_{n}.nii" for n in ("ED", "ED_gt", "ES", "ES_gt")),
         *(f"camus/patient000{k}/patient000{k}_2CH_{n}.nii" for k in (1, 2) for n in ("ED", "ES")),
         "camus/patient0001/Info_2CH.cfg", "camus/subgroup_training.txt",
         "echonet/FileList.csv", "echonet/VolumeTracings.csv",
         "echonet/Videos/v.avi", "echonet/Videos/w.avi")  # fmt: skip
LISTED = (
    "l2r/T_dataset.json", *(f"l2r/{folder}Tr/T_000{k}_0000.{suffix}" for k in range(1, 5)
    for folder, suffix in (("images", "nii"), ("labels", "nii"), ("keypoints", "csv"))),
)  # fmt: skip
SITE = tuple(f"site/IXI{n}.nii" for n in ("002-Guys-0828-T1", "002-Guys-0828-T2", "012-HH-1211-T1"))
PICKLES = tuple(f"ixi/{n}.pkl" for n in ("Train/subject_1", "Train/subject_2", "Val/subject_3",
                                         "Test/subject_4", "atlas"))  # fmt: skip
PEOPLE = tuple(f"oasis/{n}/{f}.nii" for n in ("1000", "1017", "1002") for f in ("t1", "labels"))
POINTS = tuple(f"dirlab/Case1_300_T{phase}_xyz.txt" for phase in ("00", "50"))


def remember_readers() -> None:
    """Read the metadata of all that is installed once, in a process that does nothing but fuzz."""
    readers.names = functools.cache(readers.names)


def _at(*names: str) -> tuple[str, ...]:
    return tuple(f"data/{name}" for name in names)


def _use(pairs: list[PairCase]) -> None:
    """Load the last pair, as training does; names are those of files."""
    for pair in pairs:
        assert "/" not in pair.name and pair.name[0] != "."
    if pairs and not isinstance(pairs[-1].fixed.stored, Raw):
        for case in (pairs[-1].fixed, pairs[-1].moving):
            image = load_image(case)
            load_labels(case, image)
            load_points(case, image)


def _begin(folder: Path) -> None:
    """Images of DIR-Lab's first case: 12 MB of nothing each."""
    place = Path("data/dirlab")
    place.mkdir(parents=True, exist_ok=True)
    for phase in ("00", "50"):
        with (place / f"case1_T{phase}_s.img").open("wb") as file:
            os.truncate(file.fileno(), 2 * int(np.prod(dirlab.form(1).size)))


def _spec(rng: Random, seeds: Seeds) -> bytes:
    return phrase(rng, SPECS)


def _read_spec(path: Path, data: bytes) -> None:
    spec = data.decode("utf-8", "surrogateescape")
    reader, _, rest = spec.partition(":")
    if reader == "breathing":
        source, settings = breathing.parse(rest)
        breathing._splits(source, settings) if settings.n <= SMALL else None
        return  # pairs are as many and as large as the user says
    if reader == "phantom":
        kind, _, query = rest.partition("?")
        asked = phantom_files._settings(kind, query)
        if asked["n"] > FEW or asked.get("size", SMALL + 1) > SMALL:
            return
    if "dirlab" in spec and "nifti" in spec:
        return
    _use(open_data(spec, files=len(data) % 2 == 0))


def _listing(rng: Random, seeds: Seeds) -> bytes:
    return tree(rng, LISTING)


def _read_listing(path: Path, data: bytes) -> None:
    path.replace("data/l2r/T_dataset.json")
    reader = ("learn2reg", "oasis")[zlib.crc32(data) % 2]
    _use(open_data(f"{reader}:data/l2r?n=3&val=2"))


def _side(rng: Random, seeds: Seeds) -> bytes:
    """The file's path in a line, and what it holds."""
    place = rng.choice(list(SIDES))
    sound = SIDES[place]
    if place.endswith(".json") and rng.random() < 0.5:
        content = tree(rng, json.loads(sound))
    else:
        content = lines(rng, sound)
    return place.encode() + b"\n" + content


def _read_side(path: Path, data: bytes) -> None:
    place, _, content = data.partition(b"\n")
    name = place.decode("latin-1")
    file = Path("data") / name
    if name not in SIDES:
        return
    file.write_bytes(content)
    try:
        reader = name.partition("/")[0]
        settings = {"camus": "?view=2CH" + "&quality=good" * ("Info" in name)}.get(reader, "")
        _use(open_data(f"{reader}:data/{reader}{settings}"))
    finally:
        file.write_text(SIDES[name], encoding="utf-8")


def _voxels(rng: Random, seeds: Seeds) -> bytes:
    return lines(rng, rng.choice((VOXELS, "1,2,3\n0,1.5,2\n")))


def _read_voxels(path: Path, data: bytes) -> None:
    way = zlib.crc32(data) % 4
    if way == 0:
        path.replace(LANDMARKS)
        open_data("dirlab:data/dirlab?check=warn")
    else:
        points = read_voxels(path, (256, 256, 94), way % 2)
        assert np.isfinite(points).all() and points.shape[1] == 3


def _stored(rng: Random, seeds: Seeds) -> bytes:
    return damaged(rng, seeds.bytes["stored.img"])


def _read_stored(path: Path, data: bytes) -> None:
    for form in FORMS:
        if len(data) == 2 * int(np.prod(form.size)):
            assert np.isfinite(read_raw(path, form).array).all()
    read_raw(path, FORMS[zlib.crc32(data) % len(FORMS)])


def _brain(rng: Random, seeds: Seeds) -> bytes:
    sound = seeds.of("brain.pkl", "arrays4.pkl", "arrays2.pkl")
    return damaged(rng, rng.choice(sound), [*sound, b"cos\nsystem\n(S'id'\ntR."], rounds=2)


def _read_brain(path: Path, data: bytes) -> None:
    path.replace("data/ixi/Val/subject_3.pkl")
    copies = "&nifti=out/copies" if zlib.crc32(data) % 4 == 0 else ""
    _use(open_data(f"ixi:data/ixi?split=val{copies}"))


def _thorax(rng: Random, seeds: Seeds) -> bytes:
    data = header_fields(rng, seeds.bytes["thorax.nii"], ONE)
    return damaged(rng, data) if rng.random() < 0.3 else data


def _read_thorax(path: Path, data: bytes) -> None:
    thorax = read_thorax(path)
    grid = thorax.grid_around(30.0, 20.0)
    if np.prod(grid.shape) <= 16**3 and zlib.crc32(data) % 4 == 0:
        breathing.make_breathing(thorax, "sliding", 1, 20.0)


def _target(
    name: str, make: Any, read: Any, file: str, share: float, *beside: str, **more: Any
) -> Target:
    return Target(name, make, read, file, share, beside, **more)


TARGETS = (
    _target("--data", _spec, _read_spec, "in.txt", 8, "fixed.nii.gz", "moving.nii.gz", "labels.nii",
            "pairs.csv", "thorax.nii", *_at(*TREES, *LISTED, *SITE, *PICKLES, *PEOPLE, *POINTS),
            strategy=text, begin=_begin),
    _target("listing of Learn2Reg", _listing, _read_listing, "in.json", 5, *_at(*LISTED)),
    _target("side files of data sets", _side, _read_side, "in.side", 7, *_at(*TREES)),
    _target("voxel landmarks", _voxels, _read_voxels, "in.csv", 10, *_at(*POINTS), begin=_begin),
    _target("raw volume", _stored, _read_stored, "in.img", 5),
    _target("pickled volumes", _brain, _read_brain, "in.pkl", 5, *_at(*PICKLES)),
    _target("thorax", _thorax, _read_thorax, "in.nii", 0.6),
)  # fmt: skip
