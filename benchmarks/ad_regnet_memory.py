"""Time and peak memory of one pass of AD-RegNet, beside the estimate that guards registrations.

``python benchmarks/ad_regnet_memory.py --preset paper --size 160,192,224 --threads 1``

The peak is that of the whole process (resident memory on the CPU, allocated memory on a GPU); the
network has its first random weights, which changes neither time nor memory. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))

from regtool_ad_regnet.memory import GIB, needed
from regtool_ad_regnet.model import build
from regtool_ad_regnet.options import ADRegNetOptions
from regtool_ad_regnet.presets import AD_REGNET


def main() -> None:
    """Measure one pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="paper", choices=sorted(AD_REGNET))
    parser.add_argument("--size", default="160,192,224", help="voxels along z, y, x")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="mixed precision")
    asked = parser.parse_args()
    shape = tuple(int(n) for n in asked.size.split(","))
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    device = torch.device(asked.device)
    network = build(AD_REGNET[asked.preset]).network.to(device).eval()
    fixed, moving = (torch.rand(1, 1, *shape, device=device) for _ in range(2))
    before = _peak(device)
    wall, cpu = time.perf_counter(), time.process_time()
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=asked.bf16)
    with torch.no_grad(), mixed:
        estimate = needed(network, shape, ADRegNetOptions())
        field = network(fixed, moving).displacement
        if device.type == "cuda":
            torch.cuda.synchronize()
    print(
        json.dumps(
            {
                "preset": asked.preset,
                "size": shape,
                "parameters": sum(p.numel() for p in network.parameters()),
                "device": str(device),
                "threads": asked.threads,
                "precision": "bf16" if asked.bf16 else "fp32",
                "seconds": round(time.perf_counter() - wall, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
                "before_gib": round(before / GIB, 2),
                "peak_gib": round(_peak(device) / GIB, 2),
                "estimate_gib": round(estimate / GIB, 2),
                "finite": bool(torch.isfinite(field).all()),
            }
        )
    )


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
