"""A toy method for the training tests: a small network, several recipes, pairs made on the spot."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from regtool.plugins.description import Method
from regtool.plugins.exchange import Context, Pair, Prediction, Sample
from regtool.plugins.training import Optimiser, Schedule, Stage, StepOutput
from regtool.spatial.warp import warp

SHAPE = (24, 24)
PRESET: dict[str, Any] = {
    "ndim": 2,
    "network": {"width": 4},
    "preparation": {"spacing": [None, None], "size": list(SHAPE), "multiple": 8,
                    "intensity": [{"kind": "minmax"}]},
    "training": {"steps": 12, "lr": 1e-2, "batch": 2, "ema": None, "kind": "plain",
                 "pause": 0.0, "nan_at": -1, "val_every": 4, "log_every": 1,
                 "checkpoint_every": 3, "augment": {}},
}  # fmt: skip


class Options(BaseModel):
    """No options."""


class Net(nn.Module):
    """Two convolutions and dropout, which uses torch's global random numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, width, 3, padding=1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, pair: Pair, options: Any, context: Context) -> Prediction:
        x = torch.cat([pair.fixed.image, pair.moving.image], 1)
        return Prediction(displacement=self.head(self.drop(torch.tanh(self.body(x)))))


class Gan(nn.Module):
    """A generator that registers and a critic of its images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.registrar = Net(width)
        self.critic = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Conv2d(4, 1, 3))


def build(config: Mapping[str, Any]) -> Net:
    return Net(config["network"]["width"])


def _step(training: Mapping[str, Any]) -> Any:
    def step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
        time.sleep(training["pause"])
        if os.environ.get("TOY_DIE_AT") == str(context.step):
            os.kill(os.getpid(), int(os.environ["TOY_SIGNAL"]))
        noisy = pair.fixed.image + 0.01 * torch.randn(
            pair.fixed.image.shape, generator=context.generator
        )
        shown = Pair(Sample(noisy, pair.fixed.spacing), pair.moving)
        prediction = module(shown, None, context)
        moved = warp(pair.moving.image, prediction.displacement)
        image = ((moved - pair.fixed.image) ** 2).mean()
        if context.step == training["nan_at"]:
            image = image * float("nan")
        return StepOutput(
            {"image": image, "size": 1e-3 * prediction.displacement.pow(2).mean()}, prediction
        )

    return step


def _gan_step(module: nn.Module, pair: Pair, context: Context) -> StepOutput:
    prediction = module.registrar(pair, None, context)  # type: ignore[operator, union-attr]
    moved = warp(pair.moving.image, prediction.displacement)
    judge: Any = module.critic
    if context.optimiser == "critic":
        real, fake = judge(pair.fixed.image).mean(), judge(moved.detach()).mean()
        return StepOutput({"critic": (fake - real) + 0.1 * (fake**2 + real**2)})
    return StepOutput(
        {"image": ((moved - pair.fixed.image) ** 2).mean(), "judged": -0.01 * judge(moved).mean()},
        prediction,
    )


def recipe(preset: Mapping[str, Any]) -> tuple[Stage, ...]:
    t, width = preset["training"], preset["network"]["width"]
    common = {"steps": t["steps"], "batch": t["batch"], "ema": t["ema"]}
    if t["kind"] == "gan":
        optimisers = (
            Optimiser(t["lr"], "registrar", parameters=("registrar",)),
            Optimiser(t["lr"] / 2, "critic", "SGD", ("critic",), {"momentum": 0.9}),
        )
        return (Stage("gan", lambda c, u: Gan(width), _gan_step, optimisers, **common),)
    schedule = Schedule(t.get("schedule", "constant"), warmup=2)
    adam = (Optimiser(t["lr"], schedule=schedule, clip_norm=1.0),)
    plain = Stage("main", lambda c, u: Net(width), _step(t), adam, **common)
    if t["kind"] != "two":
        return (plain,)

    def finish(config: Mapping[str, Any], upstream: Mapping[str, nn.Module]) -> nn.Module:
        net = Net(width)
        net.body.load_state_dict(upstream["main"].body.state_dict())  # type: ignore[union-attr]
        return net

    fine = Stage("fine", finish, _step(t), adam, freezes=("body.",), **common)
    return plain, fine


METHOD = Method(
    name="toy", summary="toy", paper=None, licence="Apache-2.0", ndim=(2,),
    model="training_toy:build",
    options="training_toy:Options", recipe="training_toy:recipe",
    presets={"tiny": PRESET, "gan": {**PRESET, "training": {**PRESET["training"], "kind": "gan"}},
             "two": {**PRESET, "training": {**PRESET["training"], "kind": "two"}},
             "cosine": {**PRESET, "training": {**PRESET["training"], "schedule": "cosine"}}},
)  # fmt: skip


def make_data(folder: Path, pairs: int = 5, labels: bool = True, val: int = 2) -> Path:
    """Discs of different size and place as NIfTI files with a pairs table; its path."""
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    rows = ["fixed,moving,fixed_labels,moving_labels,split" if labels else "fixed,moving,split"]
    generator = np.random.default_rng(0)
    y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    for k in range(pairs):
        names = []
        for side in ("fixed", "moving"):
            cy, cx, r = 11 + generator.uniform(-2, 2), 11 + generator.uniform(-2, 2), 5 + 2 * k % 3
            disc = (y - cy) ** 2 + (x - cx) ** 2 < r**2
            image = disc + 0.1 * generator.random(SHAPE)
            name = f"{k}_{side}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(image.astype(np.float32)), str(folder / name))
            sitk.WriteImage(
                sitk.GetImageFromArray(disc.astype(np.uint8)), str(folder / f"labels_{name}")
            )
            names.append(name)
        split = "val" if k < val else "train"
        more = [f"labels_{n}" for n in names] if labels else []
        rows.append(",".join([*names, *more, split]))
    table = folder / "pairs.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def sample_pair(seed: int = 0, batch: int = 1) -> Pair:
    """A random pair with labels."""
    g = torch.Generator().manual_seed(seed)

    def sample() -> Sample:
        image: Tensor = torch.rand(batch, 1, *SHAPE, generator=g)
        return Sample(image, (1.0, 1.0), labels=(image > 0.5).long())

    return Pair(sample(), sample())


def install() -> None:
    """Make the toy method known in this process."""
    from regtool.plugins import discovery

    real = discovery.load
    discovery.load = lambda name: METHOD if name == "toy" else real(name)


def main() -> None:
    """Run ``regtool train`` with the toy method installed; used as a subprocess."""
    import typer

    from regtool.cli import messages
    from regtool.cli.train import train
    from regtool.errors import RegtoolError

    messages.install()
    install()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(train)
    try:
        app(standalone_mode=False)
    except RegtoolError as error:
        messages.error(str(error))
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
