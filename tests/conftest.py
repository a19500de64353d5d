"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images (REGTOOL_TEST_DATA, or shared/data beside the repository)."""
    named = os.environ.get("REGTOOL_TEST_DATA")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(named) if named else beside
    if not folder.is_dir():
        pytest.skip("real images are absent: set REGTOOL_TEST_DATA to their folder")
    return folder
