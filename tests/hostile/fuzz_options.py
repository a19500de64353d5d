"""Targets: what a user types: values of options, chains of transforms, whole command lines."""

from __future__ import annotations

import contextlib
import io
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import typer
from fuzz_mutation import WORDS, phrase
from fuzz_seeds import METHOD, STEPS, Seeds
from fuzz_target import Target

from regtool.cli import app, messages
from regtool.engine.chain import read_chain
from regtool.engine.cohort.plan import shard
from regtool.engine.device import choose_device, choose_precision
from regtool.engine.evaluate.series import parse_frames
from regtool.engine.evaluate.settings import parse_metrics, parse_structures
from regtool.engine.request import Request, read_inputs
from regtool.engine.training.settings import apply_overrides
from regtool.engine.training.stop import parse_duration
from regtool.errors import RegtoolError
from regtool.imaging.initial import initial_transform
from regtool.imaging.reading import read_image
from regtool.imaging.writing import Outputs, checked_prefix
from regtool.plugins import discovery
from regtool.plugins.options import parse_options
from regtool.weights import hub, resolve, stock

BESIDE = ("fixed.nii.gz", "moving.nii.gz", "labels.nii", "affine2.mat", "pair_regtool.json",
          "pair_1Warp.nii.gz", "pair_0GenericAffine.mat", "pairs.csv", "points.csv", "names.csv",
          "weights/config.json", "weights/model.safetensors", "field2.nii")  # fmt: skip
METHODS = ("voxelmorph", "voxelmorph-diff", "optimise", "ldm-morph", "diffusemorph", "syn", "vtn")
SETTINGS = (
    "iterations=2,1", "iterations=[2, 1]", "loss=mse", "passes=2", "rate=0.3", "steps=20",
    "sampler=ddim", "eta=0.5", "clamp=none", "previews=3,4", "lr=1e-3", "where=mask", "seed=1",
)  # fmt: skip
OVERRIDES = (
    "training.lr=1e-3", "steps=5", "network.width=2", "augment.gamma=0.2", "patch=(16,16,16)",
    "preparation.size=[8,8]", "name=x", "fields_options={'a': 1}", "network.variant='1'",
)  # fmt: skip
CHAINS = (
    "pair_regtool.json", "pair_1Warp.nii.gz|pair_0GenericAffine.mat", "[affine2.mat,1]",
    "[affine2.mat,0]|field2.nii", "affine2.mat", "[pair_1Warp.nii.gz,1]", "fixed.nii.gz",
)  # fmt: skip
NAMES = ("weights", "voxelmorph-acdc-2d", "none", "hub:org/repo@main", "hub:org/repo",
         "weights/model.safetensors", "model.pt")  # fmt: skip
SMALL = ("30m", "1h30m", "01:30:00", "3:9", "0:5", "dice,hd95", "LV=1+2", "1/8", "cpu", "cuda:0",
         "bf16", "com", "rigid", "affine2.mat", "out/x_", "labels.nii", "points.csv")  # fmt: skip
COMMANDS = (
    f"register|fixed.nii.gz|moving.nii.gz|-m|{METHOD}|--set|{STEPS}|-o|out/r_|--dry-run",
    f"register|--pairs|pairs.csv|-m|{METHOD}|-o|out/c|--dry-run|--shard|1/2",
    "register|fixed.nii.gz|moving.nii.gz|--roi|labels.nii|--initial|com|-o|out/r_|--dry-run|-w|none",
    "apply|moving.nii.gz|-r|fixed.nii.gz|-t|pair_regtool.json|-o|out/a.nii.gz|-n|nearest",
    "apply|points.csv|-t|affine2.mat|-o|out/p.csv|--overwrite",
    "jacobian|pair_regtool.json|-o|out/j.nii.gz|--log|--overwrite",
    "evaluate|pair_regtool.json|--metrics|ncc|--group|a=1+2|--names|names.csv|--json",
    "diff|pair_regtool.json|pair_regtool.json|--json",
    "methods|voxelmorph|--json", "weights|list", "weights|path|x", "weights|verify|weights/",
    "plugins|list",
)  # fmt: skip
CODES = frozenset({0, 2, 7})
"""Exit codes that need no error of regtool: done, typer's own refusal, --exit-code."""


def _make(*seeds: tuple[str, ...]) -> Any:
    def make(rng: Random, _: Seeds) -> bytes:
        return phrase(rng, rng.choice(seeds))

    return make


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@cache
def _classes() -> list[tuple[Any, Any, str]]:
    found = []
    for name in METHODS:
        method = discovery.load(name)
        options = discovery.resolve_import(method.options, "options")
        preset = next(iter(method.presets.values()), {})
        found.append((options, preset, name))
    return found


def _set(path: Path, data: bytes) -> None:
    """``--set``, of registering and of training."""
    options, _preset, name = _classes()[zlib.crc32(data) % len(METHODS)]
    parse_options(options, _text(data).split("|"), name)


def _override(path: Path, data: bytes) -> None:
    _, preset, _ = _classes()[zlib.crc32(data) % len(METHODS)]
    apply_overrides(preset, _text(data).split("|"))


def _chain(path: Path, data: bytes) -> None:
    specs = _text(data).split("|")
    read_chain(specs, inverse=len(data) % 3 == 0)


def _name(path: Path, data: bytes) -> None:
    text = _text(data)
    attempts = [lambda: hub.parse_hub(text), lambda: resolve(_method(), text, 2, offline=True)]
    if zlib.crc32(data) % 128 == 0:  # these read the metadata of all that is installed
        attempts += [lambda: stock.find(text), lambda: discovery.load(text)]
    for attempt in attempts:
        with contextlib.suppress(RegtoolError):
            attempt()


@cache
def _method() -> Any:
    return discovery.load("voxelmorph")


def _small(path: Path, data: bytes) -> None:
    """Short values, each given to everything that takes one."""
    text = _text(data)
    image = read_image("fixed.nii.gz")
    for attempt in (
        lambda: parse_duration(text),
        lambda: parse_frames(text),
        lambda: parse_metrics(text),
        lambda: parse_structures([text], None, {}),
        lambda: parse_structures([], text, {}),
        lambda: shard([], text),
        lambda: choose_precision(text, choose_device(text)),
        lambda: initial_transform(text, image, image) if text not in ("rigid", "affine") else 0,
        lambda: checked_prefix(text),
        lambda: Outputs(text, ["Warped.nii.gz"]),
        lambda: Outputs({"one": text}, inputs=[text]),
        lambda: read_inputs(Request(image, image, METHOD, roi=text)),
        lambda: read_inputs(Request(image, image, METHOD, fixed_points=text)),
        lambda: Request(text, text, METHOD, initial=text).asked(),
    ):
        with contextlib.suppress(RegtoolError):
            attempt()


@cache
def _program() -> typer.Typer:
    messages.install()
    return app.create()


def _command(path: Path, data: bytes) -> None:
    """A whole command line, in this process."""
    arguments = _text(data).split("|")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            _program()(args=arguments, prog_name="regtool")
        except SystemExit as end:
            if end.code not in CODES:
                raise RuntimeError(f"exit {end.code!r}: {said.getvalue()[-300:]}") from None


def text() -> Any:
    """Any short text, for hypothesis."""
    from hypothesis import strategies as st

    part = st.one_of(st.text(max_size=10), st.sampled_from([w for w in WORDS if len(w) < 100]))
    return st.lists(part, max_size=5).map(
        lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
    )


TARGETS = (
    Target("--set", _make(SETTINGS), _set, "in.txt", 9, BESIDE, text),
    Target("--set of train", _make(OVERRIDES), _override, "in.txt", 9, BESIDE, text),
    Target("-t", _make(CHAINS), _chain, "in.txt", 9, BESIDE, text),
    Target("names", _make(NAMES), _name, "in.txt", 3, BESIDE, text),
    Target("other options", _make(SMALL, NAMES, CHAINS), _small, "in.txt", 0.8, BESIDE, text),
    Target("command line", _make(COMMANDS), _command, "in.txt", 0.6, BESIDE),
)
