"""Instance optimisation for plugins: improve a displacement for one pair; imports torch."""

from __future__ import annotations

from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import LENGTHS, Optimisation

__all__ = ["LENGTHS", "Optimisation", "optimise"]
