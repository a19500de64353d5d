"""Targets: config.json, safetensors files, checkpoints and settings of training runs."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from fuzz_mutation import any_value, damaged, tree
from fuzz_seeds import Seeds
from fuzz_target import Target

from regtool.diffusion.noise import NoiseSource
from regtool.diffusion.sampling import sample
from regtool.diffusion.schedule import NoiseSchedule
from regtool.engine.registrar import load_registrar
from regtool.engine.sampling.state import resume
from regtool.engine.training.settings import apply_overrides, loop_settings, read_settings
from regtool.engine.training.state import read_checkpoint
from regtool.plugins import discovery
from regtool.plugins.sampling_options import SamplingOptions
from regtool.weights import resolve, stock
from regtool.weights.files import read_config, read_header
from regtool.weights.state import load_state

SOUND = ("weights/config.json", "weights/model.safetensors", "weights/README.md")


def _config(rng: Random, seeds: Seeds) -> bytes:
    return tree(rng, seeds.config())


def _read_config(path: Path, data: bytes) -> None:
    """Weights whose config.json came from a stranger, up to a network that is loaded."""
    path.replace("weights/config.json")
    way = zlib.crc32(data) % 6
    if way == 0:
        load_registrar("voxelmorph", 2, weights="weights", device="cpu", threads=1)
    elif way == 1:
        stock.verify("weights/")
    elif way == 2:
        found = resolve(discovery.load("voxelmorph"), "weights", 2, offline=True)
        shutil.rmtree("out/copies", ignore_errors=True)
        stock.copy_to(found, Path("out/copies"))
        json.dumps(found.record())
    else:
        read_config(Path("weights/config.json"), discovery.load("voxelmorph"), 2)


def _safetensors(rng: Random, seeds: Seeds) -> bytes:
    return _packed(rng, seeds.bytes["weights/model.safetensors"])


def _packed(rng: Random, data: bytes) -> bytes:
    """The header as JSON, or any byte of header and values."""
    length = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + length], data[8 + length :]
    kind = rng.randrange(5)
    if kind == 0:
        return damaged(rng, data[: 8 + length]) + values
    if kind == 1:
        return damaged(rng, data)
    content = json.loads(header)
    if kind == 2:  # one entry, of which each part is checked by itself
        name = rng.choice(list(content))
        part = rng.choice(("dtype", "shape", "data_offsets"))
        content[name][part] = any_value(rng)
        text = json.dumps(content).encode()
    else:
        text = tree(rng, content)
    said = len(text) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    return said.to_bytes(8, "little") + text + values


def _read_safetensors(path: Path, data: bytes) -> None:
    if zlib.crc32(data) % 2:
        read_header(path)
        load_state(path)
    else:
        path.replace("weights/model.safetensors")
        stock.verify("weights/")


def _checkpoint(rng: Random, seeds: Seeds) -> bytes:
    return _packed(rng, seeds.bytes["checkpoint.safetensors"])


def _read_checkpoint(path: Path, data: bytes) -> None:
    read_checkpoint(path)


def _settings(rng: Random, seeds: Seeds) -> bytes:
    return tree(rng, json.loads(seeds.bytes["settings.json"]))


def _read_settings(path: Path, data: bytes) -> None:
    settings = read_settings(path)
    loop_settings(settings.preset, "registration")
    apply_overrides(settings.preset, ["steps=3"])


FACTS = {"schema": 1, "sampler": "ddim", "steps": 5, "eta": 0.0, "clamp": 6.0, "levels": 20,
         "number": 2, "begin": 19, "seed": 3, "pair": "00"}  # fmt: skip
SHAPE = (1, 2, 4, 3)


def _saved(facts: str) -> bytes:
    import torch
    from safetensors.torch import save

    return save({"state": torch.linspace(-2, 2, 24).reshape(SHAPE)}, {"facts": facts})


def _state(rng: Random, seeds: Seeds) -> bytes:
    """A sampling that was stopped: the facts in its header, or any byte."""
    if rng.random() < 0.6:
        return _saved(tree(rng, FACTS).decode("utf-8", "replace"))
    return _packed(rng, _saved(json.dumps(FACTS)))


def _read_state(path: Path, data: bytes) -> None:
    """Go on with it, as ``--set resume=`` does."""
    import torch

    image = SimpleNamespace(image=torch.zeros(1, 1, 4, 3))
    pair: Any = SimpleNamespace(fixed=image, moving=image)
    found = resume(str(path), SamplingOptions(), SHAPE, 20, pair)
    schedule = NoiseSchedule(steps=20)
    if found.saved.number < len(found.settings.levels(schedule, found.saved.begin)):
        noise = NoiseSource(found.seed, (0,))
        done = sample(lambda x, t: 0.1 * x, schedule, found.saved, found.settings, noise)
        assert done.answer.shape == SHAPE


TARGETS = (
    Target("config.json", _config, _read_config, "in.json", 4, SOUND),
    Target("safetensors", _safetensors, _read_safetensors, "in.safetensors", 5, SOUND),
    Target("sampling state", _state, _read_state, "in.safetensors", 5),
    Target("checkpoint", _checkpoint, _read_checkpoint, "in.safetensors", 14),
    Target("settings.json", _settings, _read_settings, "settings.json", 14),
)
