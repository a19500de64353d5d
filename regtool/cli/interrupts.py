"""Ctrl-C as a wish: the first one asks a method to come to an end, the second one interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from regtool.cli.common import log


class FirstAsks:
    """While it is entered, the first SIGINT makes what it gives return true.

    The next one is handled as it was before. Ignored signals stay ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Callable[[], bool]:
        here = threading.current_thread() is threading.main_thread()
        if here and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return lambda: self.asked

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()
        log.warning("stopping after this step with the best so far; Ctrl-C again writes nothing")

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
