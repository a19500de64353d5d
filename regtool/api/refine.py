"""Instance optimisation for plugins: improve a displacement for one pair; imports torch."""

from __future__ import annotations

from regtool.engine.refine import Optimisation, optimise

__all__ = ["Optimisation", "optimise"]
