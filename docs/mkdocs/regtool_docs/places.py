"""Where things are in the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PLUGINS = ROOT / "plugins"
CACHE = ROOT / "build" / "docs-pictures"
