"""Pairs a second in training, at batch 1 and native size, and where the time goes.

    python benchmarks/training.py -m diffusemorph --preset paper --threads 1
    python benchmarks/training.py -m diffusemorph --preset paper --device cuda --precision bf16

Runs the method's own training step on random images of the preset's size (or ``--size``): the whole
step by the wall clock, without profiler, then the share of each part as torch's profiler sees it,
and the operators that take most. Parts: augmentation, every direct child of the network going
forward, losses and warps, everything going backward, and the optimiser. Loading is not in it: pairs
lie prepared in memory. ``--channels-last`` stores convolutions so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from regtool.data.augment import Augment, augment
from regtool.engine.training.run import _channels_last
from regtool.engine.training.settings import plain
from regtool.nn.precision import protect_convolutions
from regtool.plugins import discovery
from regtool.plugins.exchange import Context, Pair, Sample


class Step:
    """One training step of the last stage of a method's recipe, without the engine around it."""

    def __init__(self, given: argparse.Namespace) -> None:
        method = discovery.load(given.method)
        preset = plain(method.presets[given.preset])
        # Where the 3-D stage starts from does not change what a step costs.
        preset["training"].pop("slices_first", None)
        config = {**preset, "method": method.name}
        self.stage = discovery.resolve_import(method.recipe, "recipe")(config)[-1]
        self.device = torch.device(given.device)
        self.half = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[given.precision]
        module = self.stage.build(config, {})
        if given.channels_last:
            _channels_last(module)
        self.module: nn.Module = module.to(self.device).train()
        if given.precision == "bf16":
            protect_convolutions(self.module)
        self.augment = Augment.model_validate(preset["training"].get("augment", {}))
        self.optimiser = torch.optim.Adam(self.module.parameters(), lr=1e-4)
        size = tuple(given.size or preset["preparation"]["size"])
        self.size = size
        images = torch.rand(2, given.batch, 1, *size, device=self.device)
        spacing = tuple(reversed(preset["preparation"]["spacing"]))
        spacing = tuple(s or 1.0 for s in spacing)
        self.pair = Pair(*(Sample(image, spacing) for image in images))
        self.generator = torch.Generator(self.device).manual_seed(0)
        self.batch = given.batch
        for name, child in self.module.named_children():
            child.forward = _named(child.forward, f"part: {name}")  # type: ignore[method-assign]

    def __call__(self) -> None:
        """Augment, compute the loss, step."""
        with record_function("part: augmentation"):
            pair = augment(self.pair, self.augment, self.generator)
        context = Context(self.generator, self.device, training=True)
        with (
            record_function("part: forward"),
            torch.autocast(self.device.type, self.half, enabled=self.half is not None),
        ):
            terms = self.stage.step(self.module, pair, context).terms
        with record_function("part: backward"):
            self.optimiser.zero_grad(set_to_none=True)
            torch.stack([t.float() for t in terms.values()]).sum().backward()
        with record_function("part: optimiser"):
            self.optimiser.step()

    def wait(self) -> None:
        """Let the device finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _named(forward: Any, label: str) -> Any:
    def labelled(*arguments: Any, **named: Any) -> Any:
        with record_function(label):
            return forward(*arguments, **named)

    return labelled


def seconds_a_step(step: Step, steps: int) -> tuple[float, float]:
    """Median seconds of a step by the wall clock and of the processor, after two to warm up."""
    times = []
    for number in range(steps + 2):
        step.wait()
        start = time.perf_counter(), time.process_time()
        step()
        step.wait()
        if number > 1:
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, own = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
    return wall, own


def shares(step: Step, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Share of each part, and of the ten operators that take most, in a profiled run."""
    activities = [ProfilerActivity.CPU]
    on_device = step.device.type == "cuda"
    if on_device:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as seen:
        for _ in range(steps):
            step()
        step.wait()
    parts: dict[str, float] = defaultdict(float)
    operators: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        if event.key.startswith("part: "):
            total = event.device_time_total if on_device else event.cpu_time_total
            parts[event.key.removeprefix("part: ")] += total
        elif event.key.startswith("aten::"):
            own = event.self_device_time_total if on_device else event.self_cpu_time_total
            operators[event.key.removeprefix("aten::")] += own
    networks = [name for name, _ in step.module.named_children()]
    parts["losses and warps"] = parts.pop("forward", 0.0) - sum(parts.get(n, 0) for n in networks)
    whole = sum(parts.values())
    most = sorted(operators.items(), key=lambda item: -item[1])[:10]
    everything = sum(operators.values())
    return (
        {name: value / whole for name, value in sorted(parts.items(), key=lambda i: -i[1])},
        {name: value / everything for name, value in most},
    )


def main() -> None:
    """Print the figures of one configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--method", default="diffusemorph")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--size", type=int, nargs="+", help="in place of the preset's, z y x")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    step = Step(given)
    seconds, processor = seconds_a_step(step, given.steps)
    parts, operators = shares(step, max(1, given.steps // 2))
    size = " x ".join(map(str, step.size))
    print(
        f"{given.method} {given.preset}, {size}, batch {given.batch}, {given.device}, "
        f"{given.precision}, {torch.get_num_threads()} threads: {seconds:.3f} s a step, "
        f"{given.batch / seconds:.3f} pairs a second; {processor:.3f} s of processor time a step"
    )
    print("parts: " + ", ".join(f"{name} {value:.0%}" for name, value in parts.items()))
    print("operators: " + ", ".join(f"{name} {value:.0%}" for name, value in operators.items()))
    if given.json:
        found = {
            "size": step.size,
            "seconds": seconds,
            "processor_seconds": processor,
            "parts": parts,
            "operators": operators,
        }
        given.json.write_text(json.dumps(vars(given) | found, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
