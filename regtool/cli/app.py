"""The ``regtool`` program: its commands, its error messages and exit codes.

Nothing but the standard library is imported at the top, so that ``main`` catches signals from the
first moments on.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from regtool.errors import DeviceError, Interrupted, OutputError, RegtoolError

if TYPE_CHECKING:
    import typer


class _Stopped(BaseException):
    """SIGINT or SIGTERM. No Exception, so that nothing on the way out takes it for its own."""


_stopped_by: list[str] = []
"""Names of the signals received; libraries may turn ``_Stopped`` into an error of theirs."""


def create() -> typer.Typer:
    """Build the program with all its commands."""
    import typer

    from regtool.cli import apply, demo, jacobian, methods, plugins, register, train, weights
    from regtool.cli.common import show_version

    app = typer.Typer(
        name="regtool",
        help="Deformable medical image registration: NIfTI in, NIfTI and ITK transforms out.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(show_version)
    app.command("register")(register.register)
    app.command("apply")(apply.apply)
    app.command("jacobian")(jacobian.jacobian)
    app.command("train")(train.train)
    app.command("methods")(methods.methods)
    app.add_typer(weights.app, name="weights")
    app.add_typer(plugins.app, name="plugins")
    app.command("demo")(demo.demo)
    return app


def main() -> NoReturn:
    """Run the program. Expected errors become one line on stderr and their exit code."""
    debug = "--debug" in sys.argv
    try:
        _catch_signals()
        _run(debug)
    except _Stopped as error:
        _fail(_interrupted(error), debug)
    sys.exit(0)


def _run(debug: bool) -> None:
    from regtool.cli import messages, register

    messages.install()
    try:
        create()(args=register.with_default_refine(sys.argv[1:]))
    except RegtoolError as error:
        _fail(error, debug)
    except MemoryError as error:
        _fail(_told(DeviceError("not enough memory; use a smaller image or preset"), error), debug)
    except OSError as error:
        _fail(_os_error(error), debug)
    except Exception as error:
        if _is_out_of_memory(error):
            sentence = "not enough memory on the device; try --device cpu or a smaller image"
            _fail(_told(DeviceError(sentence), error), debug)
        _fail(error, debug)


def _told(expected: RegtoolError, cause: BaseException) -> RegtoolError:
    expected.__cause__ = cause
    return expected


def _fail(error: Exception, debug: bool) -> NoReturn:
    """Print one line and leave with the error's exit code; 1 for what nobody expected."""
    from regtool.cli import messages

    messages.install()
    if _stopped_by and not isinstance(error, Interrupted):
        error = _interrupted(error)
    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, RegtoolError):
        messages.error(str(error))
        sys.exit(error.exit_code)
    messages.error(
        f"unexpected {type(error).__name__}: {error} "
        "(a bug; run again with --debug and report the traceback)"
    )
    sys.exit(1)


def _interrupted(cause: BaseException) -> RegtoolError:
    return _told(Interrupted(f"stopped by {_stopped_by[0]}"), cause)


def _os_error(error: OSError) -> RegtoolError:
    if isinstance(error, BrokenPipeError):  # a reader such as head has gone: not worth a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    name = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOMEM:
        return _told(DeviceError(f"{name}not enough memory"), error)
    return _told(OutputError(f"{name}{reason}"), error)


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch's out-of-memory errors, without importing PyTorch for it."""
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in text


def _catch_signals() -> None:
    """Turn signals into an exception, so that temporary files are removed on the way out."""

    def stop(number: int, frame: FrameType | None) -> None:
        _stopped_by.append(signal.Signals(number).name)
        raise _Stopped(_stopped_by[-1])

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup and the like stay in force
            signal.signal(number, stop)


if __name__ == "__main__":
    main()
