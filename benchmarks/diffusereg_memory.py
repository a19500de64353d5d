"""Memory of DiffuseReg in training and sampling, counted without computing anything.

    python benchmarks/diffusereg_memory.py [--preset paper] [--set network.width=48] [--batch 1]
                                           [--reserve 0.1] [--json FILE]

Runs one whole training step (loss, backward pass, AdamW) and one step of sampling on fake tensors
(torch.FakeTensorMode), which have shapes but no storage, and follows every storage from its
creation to its end. What is reported is the largest sum of live storages: weights, gradients,
moments, activations and what operators put out on the way. Not counted: workspaces inside kernels
(cuDNN's convolutions may take some hundred MB), the allocator's fragmentation (``--reserve``, a
part on top), and the CUDA context (about 0.5 GB).

Half precision follows the lists of CPU autocast, which differ from CUDA's in few operators.
Attention is counted with its probabilities in memory; the fused kernels of a GPU keep none.
"""

from __future__ import annotations

import argparse
import json
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from regtool.api import Context, Pair, Sample
from regtool.engine.training.settings import apply_overrides, plain
from regtool.spatial.warp import pull_displaced
from regtool_diffusereg import loss
from regtool_diffusereg import model as networks
from regtool_diffusereg.field import FieldGrid
from regtool_diffusereg.model import DiffuseReg, build
from regtool_diffusereg.presets import DIFFUSEREG
from regtool_diffusereg.recipe import recipe


class Live(TorchDispatchMode):
    """Follows storages: ``now`` and ``peak`` are the bytes of all that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.add(result)
        return result

    def add(self, values: Any) -> None:
        """Count the storages of all tensors in ``values`` that are not known yet."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if storage not in self._known:
                    size = storage.nbytes()
                    self._known[storage] = size
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size


def faked(preset: Mapping[str, Any], again: bool) -> tuple[DiffuseReg, tuple[int, ...]]:
    """The network on fake tensors, and the size of its images."""
    network = {**preset["network"], "checkpointing": again, "statistics": None}
    with patch.object(nn.init, "trunc_normal_"):  # looks at values, which fakes have not
        model = build({**preset, "network": network})
    shape = tuple(preset["preparation"]["size"])
    d = model.denoiser
    grid = FieldGrid((0.0,) * 3, (1.0,) * 3, shape, d.multiple, d.scale)
    model.grid = lambda shape: grid  # type: ignore[method-assign]  # values of fakes are unknown
    return model, shape


def pair_of(shape: tuple[int, ...], batch: int) -> Pair:
    """Images and a field without values."""

    def sample() -> Sample:
        return Sample(torch.empty(batch, 1, *shape), (1.0,) * 3)

    return Pair(sample(), sample(), torch.empty(batch, 3, *shape))


def training(preset: Mapping[str, Any], batch: int, again: bool, half: bool) -> dict[str, float]:
    """GiB of one training step: all together, and what stays between steps."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.random.fork_rng(devices=[]):
        model, shape = faked(preset, again)
        (stage,) = recipe(preset)
        pair, device = pair_of(shape, batch), torch.device("cpu")
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=False)
        live = Live()
        live.add([*model.parameters(), *model.buffers()])
        with live:
            for _ in range(2):  # the moments come with the first step
                optimiser.zero_grad()
                context = Context(torch.Generator(), device, training=True)
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    terms = stage.step(model, pair, context).terms
                torch.stack([term.float() for term in terms.values()]).sum().backward()
                del terms
                optimiser.step()
            kept = live.now
    return {"peak": live.peak / 2**30, "between": kept / 2**30}


def sampling(preset: Mapping[str, Any], batch: int, half: bool) -> dict[str, float]:
    """GiB of looking at a pair and one step of sampling."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
    ):
        model, shape = faked(preset, False)
        pair = pair_of(shape, batch)
        live = Live()
        live.add([*model.parameters(), *model.buffers()])
        with live, torch.autocast("cpu", torch.bfloat16, enabled=half):
            seen = model.see(pair)
            grid = model.grid(shape)
            state = torch.empty(batch, 3, *grid.size)
            model.estimate(state, torch.zeros(1, dtype=torch.int64), seen, grid)
    return {"peak": live.peak / 2**30}


def _warp(image: Tensor, displacement: Tensor, padding: str = "border") -> Tensor:
    return pull_displaced(image, displacement, padding)  # type: ignore[arg-type]


def parameters(model: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(p.numel() for p in model.parameters())


def main() -> None:
    """Print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="paper", choices=list(DIFFUSEREG))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--reserve", type=float, default=0.0, help="part added to every figure")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for module in (loss, networks):  # without looking whether the field is zero
        module.warp = _warp  # type: ignore[attr-defined]
    preset = apply_overrides(plain(DIFFUSEREG[options.preset]), options.set)
    rows: list[dict[str, Any]] = []
    for half in (False, True):
        precision = "bf16" if half else "fp32"
        for again in (False, True):
            found = training(preset, options.batch, again, half)
            what = "training, checkpointing" if again else "training"
            rows.append({"what": what, "precision": precision, **found})
        found = sampling(preset, options.batch, half)
        rows.append({"what": "sampling", "precision": precision, **found})
    with torch.device("meta"):
        count = parameters(build({**preset, "network": {**preset["network"], "statistics": None}}))
    size = " x ".join(map(str, preset["preparation"]["size"]))
    print(f"{count:,} parameters, batch {options.batch}, images {size}", file=sys.stderr)
    for row in rows:
        figures = {k: v * (1 + options.reserve) for k, v in row.items() if isinstance(v, float)}
        row |= figures
        text = ", ".join(f"{name} {value:.2f} GiB" for name, value in figures.items())
        print(f"{row['what']:24} {row['precision']}  {text}")
    if options.json is not None:
        facts = {"schema": 1, "preset": options.preset, "set": options.set, "batch": options.batch}
        options.json.write_text(json.dumps({**facts, "parameters": count, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
