"""When to stop: signals and the time limit, noticed between steps."""

from __future__ import annotations

import re
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Literal

from regtool.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``30m``, ``1h30m``, ``2d`` or ``HH:MM:SS``.

    Raises UsageError; a bare number is refused because its unit would be a guess.
    """
    text = text.strip().lower()
    clock = re.fullmatch(r"(\d{1,9}):([0-5]?\d):([0-5]?\d)", text)
    if clock:
        hours, minutes, seconds = (int(g) for g in clock.groups())
        total = float(hours * 3600 + minutes * 60 + seconds)
    elif re.fullmatch(r"(\d{1,9}(\.\d{1,9})?[smhd])+", text):
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
        total = sum(float(value) * _UNITS[unit] for value, unit in parts)
    else:
        raise UsageError(f"--time-limit {text!r}: write 90s, 30m, 1h30m or 01:30:00")
    if total <= 0:
        raise UsageError(f"--time-limit {text!r}: must be more than zero")
    return total


class Stopper:
    """Turns SIGTERM, SIGINT, SIGHUP and a deadline into a question the loop asks between steps.

    Use as a context manager. A second SIGINT raises KeyboardInterrupt at once. Handlers are
    installed in the main thread only (elsewhere Python forbids it) and put back on exit. Signals
    that are ignored stay so.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._old: dict[int, Any] = {}
        self.signal: int | None = None

    @property
    def reason(self) -> Literal["signal", "time"] | None:
        """``"signal"``, ``"time"`` or None for go on."""
        if self.signal is not None:
            return "signal"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "time"
        return None

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGINT", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is None:
                    continue
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup and the like stay in force
                    self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
