"""Instance optimisation for plugins: improve a displacement for one pair; imports torch."""

from __future__ import annotations

from regtool.engine.optimisation.run import optimise
from regtool.engine.optimisation.settings import Optimisation

__all__ = ["Optimisation", "optimise"]
