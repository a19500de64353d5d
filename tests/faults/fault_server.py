"""A process that forks for every command, with all that training and the Hub need imported."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from warm_cli import WarmProcess, _serve, environment  # noqa: E402

MODULES = ("accelerate", "torch._inductor", "torch.utils.tensorboard",
           "tensorboard.compat.proto.event_pb2", "regtool.cli.app", "regtool.cli.register",
           "regtool.cli.train", "regtool.cli.weights", "regtool.engine.training",
           "regtool.engine.cohort.run", "huggingface_hub", "huggingface_hub.file_download",
           "safetensors.torch", "scipy.ndimage", "regtool_optimise.plugin",
           "regtool.engine.optimisation.run", "typer")  # fmt: skip


class FaultProcess(WarmProcess):
    """The same for commands that are to be struck."""

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment({"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
                             "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                             "HF_HUB_DISABLE_TELEMETRY": "1"}),
        )  # fmt: skip


def before(*lines: str) -> str:
    """Python to run first in the command's process, which ends itself should it hang."""
    start = (
        "import signal, sys, warnings",
        "signal.alarm(900)",
        "warnings.simplefilter('ignore')",
        f"sys.path.insert(0, {json.dumps(str(Path(__file__).parent))})",
    )
    return "\n".join((*start, *lines))


if __name__ == "__main__":
    for _name in MODULES:
        importlib.import_module(_name)
    import torch

    torch.set_num_threads(1)
    assert threading.active_count() == 1, "a fork would lose threads"
    _serve()
