"""Instance optimisation for plugins: for one pair, or as a teacher in training; imports torch."""

from __future__ import annotations

from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import LENGTHS, Optimisation
from regtool.engine.optimisation.teacher import taught, teacher_distance

__all__ = ["LENGTHS", "Optimisation", "optimise", "taught", "teacher_distance"]
