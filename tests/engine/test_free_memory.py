"""Free memory: the machine's, a container's share, what is only cached, and the GPU's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regtool import memory as module
from regtool.api import free_memory

CPU = torch.device("cpu")


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 1 GiB, and the folder of its control group."""
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  1048576 kB\n")
    monkeypatch.setattr(module, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "_CGROUP", tmp_path)
    return tmp_path


def test_free_memory_is_the_machines_and_the_containers(group: Path) -> None:
    assert free_memory(CPU) == 2**30
    (group / "memory.max").write_text(f"{2 * 10**8}\n")
    (group / "memory.current").write_text("150000000\n")
    assert free_memory(CPU) == 5e7
    (group / "memory.max").write_text("max\n")
    assert free_memory(CPU) == 2**30
    (group / "meminfo").write_text("odd")
    assert free_memory(CPU) is None


def test_what_a_container_only_caches_is_free(group: Path) -> None:
    (group / "memory.max").write_text("200000000\n")
    (group / "memory.current").write_text("190000000\n")
    (group / "memory.stat").write_text("anon 1\nactive_file 2\ninactive_file 140000000\n")
    assert free_memory(CPU) == 1.5e8
    (group / "memory.stat").write_text("inactive_file odd\n")
    assert free_memory(CPU) == 1e7


def test_a_system_without_these_files_tells_by_itself(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMINFO", group / "absent")
    found = free_memory(CPU)
    assert found is None or found > 2**30


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_pytorch_keeps_for_itself_is_free() -> None:
    device = torch.device("cuda")
    before = free_memory(device)
    kept = torch.empty(2**28, dtype=torch.uint8, device=device)
    del kept
    after = free_memory(device)
    assert before is not None and after is not None and after > before - 2**27
