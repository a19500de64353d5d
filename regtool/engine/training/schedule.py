"""Learning-rate factors as pure functions of the step."""

from __future__ import annotations

import math

from regtool.plugins.training import Schedule


def factor(schedule: Schedule, step: int, total: int) -> float:
    """Factor on the base learning rate at ``step`` (from 0) of ``total`` steps.

    With t = step / total: ``constant`` 1; ``step`` gamma ** (milestones passed); ``poly``
    (1 - t) ** power (TransMorph's IXI recipe); ``cosine`` from 1 to ``floor`` as (1 + cos(pi t)) /
    2. During warm-up this is multiplied by (step + 1) / (warmup + 1), so no step has rate zero.
    """
    t = min(step / total, 1.0) if total > 0 else 0.0
    if schedule.kind == "constant":
        value = 1.0
    elif schedule.kind == "step":
        value = schedule.gamma ** sum(t >= m for m in schedule.milestones)
    elif schedule.kind == "poly":
        value = (1.0 - t) ** schedule.power
    elif schedule.kind == "cosine":
        value = 0.5 * (1.0 + math.cos(math.pi * t))
        value = schedule.floor + (1.0 - schedule.floor) * value
    else:
        raise ValueError(f"unknown schedule {schedule.kind!r}")
    if step < schedule.warmup:
        value *= (step + 1) / (schedule.warmup + 1)
    return value
