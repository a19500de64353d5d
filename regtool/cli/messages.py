"""Messages for humans: one line each on stderr, and a log file where asked for."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from regtool.errors import OutputError
from regtool.paths import expanded

LOGGER = logging.getLogger("regtool")


class _Lines(logging.Formatter):
    """``regtool: text`` for information, ``regtool: warning: text`` for the rest."""

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(line.strip() for line in record.getMessage().splitlines())
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return f"regtool: {level}{text}"


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stderr`` is at the time, as tests and progress bars replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self):  # type: ignore[no-untyped-def, override]
        return sys.stderr


def install() -> None:
    """Send regtool's log to stderr; warnings of libraries only appear with ``--debug``."""
    if not LOGGER.handlers:
        handler = _Stderr()
        handler.setFormatter(_Lines())
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
    if not sys.warnoptions and "--debug" not in sys.argv:
        import warnings

        warnings.simplefilter("ignore")


def configure(verbose: int, quiet: bool, debug: bool, log_file: Path | None) -> None:
    """Set how much is said. ``quiet`` leaves warnings and errors.

    Raises OutputError when the log file cannot be written.
    """
    level = logging.WARNING if quiet else logging.DEBUG if verbose or debug else logging.INFO
    LOGGER.handlers[0].setLevel(level)
    LOGGER.setLevel(logging.DEBUG)
    if log_file is not None:
        file = expanded(log_file)
        try:
            handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise OutputError(f"--log-file {log_file}: {error.strerror}") from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(handler)


def error(text: str) -> None:
    """Print one error line."""
    LOGGER.error(text)
