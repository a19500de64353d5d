"""What survives a restart: checkpoints, optimiser states, the moving average, seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regtool.engine.training.checkpoint import (
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
    sweep,
    write_atomically,
)
from regtool.engine.training.ema import Ema
from regtool.engine.training.seeds import derive, permutation
from regtool.errors import InputError, OutputError


def _trained(
    kind: type[torch.optim.Optimizer], steps: int, net: nn.Module, **kw: object
) -> torch.optim.Optimizer:
    optimiser = kind(net.parameters(), lr=0.1, **kw)  # type: ignore[call-arg]
    _go_on(optimiser, steps, net)
    return optimiser


def _go_on(optimiser: torch.optim.Optimizer, steps: int, net: nn.Module) -> None:
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    for _ in range(steps):
        optimiser.zero_grad()
        net(x).pow(2).sum().backward()
        optimiser.step()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(torch.optim.Adam, {"amsgrad": True, "fused": True}), (torch.optim.AdamW, {}),
     (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.SGD, {})],
)  # fmt: skip
def test_optimiser_continues_bit_for_bit(
    tmp_path: Path, kind: type[torch.optim.Optimizer], arguments: dict[str, object]
) -> None:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimiser = _trained(kind, 3, net, **arguments)
    save_checkpoint(
        tmp_path / "c", {"model": net.state_dict(), "o": optimiser_tensors(optimiser)}, {"step": 3}
    )
    _go_on(optimiser, 3, net)

    parts, state = load_checkpoint(tmp_path / "c")
    other = nn.Linear(3, 2)
    other.load_state_dict(parts["model"])
    fresh = kind(other.parameters(), lr=0.1, **arguments)  # type: ignore[call-arg]
    restore_optimiser(fresh, parts.get("o", {}))
    _go_on(fresh, 3, other)
    assert state == {"step": 3}
    assert torch.equal(net.weight, other.weight)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    save_checkpoint(tmp_path / "checkpoint", {"a": {"b": torch.zeros(1)}}, {})
    assert (tmp_path / "checkpoint").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    save_checkpoint(tmp_path / "c", {"a": {"x": base, "y": base, "z": base[2:4]}}, {})
    parts, _ = load_checkpoint(tmp_path / "c")
    assert torch.equal(parts["a"]["y"], base) and parts["a"]["z"].tolist() == [2.0, 3.0]


def test_sweep_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.safetensors.123.tmp").write_text("half")
    (tmp_path / "log.csv").write_text("")
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_checkpoint_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    for name, message in (("text", "not a readable"), ("weights", "not a training checkpoint"),
                          ("absent", "no such file")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_checkpoint(tmp_path / f"{name}.safetensors")


def test_ema_follows_its_formula() -> None:
    net = nn.BatchNorm1d(2)
    ema = Ema(net, 0.9)
    start = net.weight.detach().clone()
    expected = start.clone()
    for n in range(30):
        with torch.no_grad():
            net.weight.add_(1.0)
        ema.update()
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * net.weight.detach()
    live = net.weight.detach().clone()
    with ema.applied():
        torch.testing.assert_close(net.weight.detach(), expected)
    assert torch.equal(net.weight, live)
    assert "num_batches_tracked" not in ema.shadow


def test_ema_puts_the_weights_back_after_an_error() -> None:
    net = nn.Linear(2, 2)
    ema = Ema(net, 0.5)
    with torch.no_grad():
        net.weight.add_(1)
    live = net.weight.detach().clone()
    with pytest.raises(RuntimeError), ema.applied():
        raise RuntimeError
    assert torch.equal(net.weight, live)


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_ema_refuses_a_senseless_decay(decay: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Ema(nn.Linear(1, 1), decay)


def test_seeds_differ_by_place_and_repeat() -> None:
    places = [("a", "step", n, rank) for n in range(50) for rank in range(2)]
    seeds = {derive(7, *place) for place in places}
    assert len(seeds) == len(places)
    assert derive(7, *places[3]) == derive(7, *places[3]) != derive(8, *places[3])
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_permutation_is_one_and_repeats() -> None:
    first = permutation(20, 1, "stage", 0)
    assert sorted(first) == list(range(20))
    assert first == permutation(20, 1, "stage", 0) != permutation(20, 1, "stage", 1)
