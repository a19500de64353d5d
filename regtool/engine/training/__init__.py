"""Training: stages, optimisers, schedules, checkpoints, validation and export of weights."""

from __future__ import annotations

from regtool.engine.training.run import TrainRequest, TrainResult, train

__all__ = ["TrainRequest", "TrainResult", "train"]
