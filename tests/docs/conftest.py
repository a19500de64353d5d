"""A process that has imported torch, shared by the tests of pages with commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from warm_cli import WarmProcess, script


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmProcess]:
    """A process that forks for every command."""
    if not script().exists():
        pytest.skip("the command regtool is not installed beside this Python")
    process = WarmProcess(tmp_path_factory.mktemp("streams"))
    yield process
    process.close()
