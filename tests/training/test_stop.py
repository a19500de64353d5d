"""Signals that a run listens to."""

from __future__ import annotations

import signal

import pytest

from regtool.engine.training.stop import Stopper


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_ignored_signals_stay_ignored(name: str) -> None:
    """``nohup regtool train`` outlives its terminal."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Stopper() as stopper:
            signal.raise_signal(number)
            assert stopper.reason is None
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_other_signals_stop_the_run() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with Stopper() as stopper:
        signal.raise_signal(signal.SIGHUP)
        assert stopper.reason == "signal"
    assert signal.getsignal(signal.SIGHUP) == before
