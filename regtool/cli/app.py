"""The ``regtool`` program: its commands, its error messages and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from regtool import __version__
from regtool.cli import messages
from regtool.errors import (
    DeviceError,
    Interrupted,
    OutputError,
    RegtoolError,
)


def create() -> typer.Typer:
    """Build the program with all its commands."""
    from regtool.cli import apply, demo, jacobian, methods, plugins, register, train, weights

    app = typer.Typer(
        name="regtool",
        help="Deformable medical image registration: NIfTI in, NIfTI and ITK transforms out.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_version)
    app.command("register")(register.register)
    app.command("apply")(apply.apply)
    app.command("jacobian")(jacobian.jacobian)
    app.command("train")(train.train)
    app.command("methods")(methods.methods)
    app.add_typer(weights.app, name="weights")
    app.add_typer(plugins.app, name="plugins")
    app.command("demo")(demo.demo)
    return app


def _version(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Deformable medical image registration: NIfTI in, NIfTI and ITK transforms out."""
    if version:
        print(f"regtool {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the program. Expected errors become one line on stderr and their exit code."""
    messages.install()
    _catch_signals()
    debug = "--debug" in sys.argv
    try:
        create()()
    except RegtoolError as error:
        _fail(error, debug)
    except MemoryError as error:
        _fail(_told(DeviceError("not enough memory; use a smaller image or preset"), error), debug)
    except OSError as error:
        _fail(_os_error(error), debug)
    except KeyboardInterrupt as error:
        _fail(_told(Interrupted("interrupted"), error), debug)
    except Exception as error:
        if _is_out_of_memory(error):
            sentence = "not enough memory on the device; try --device cpu or a smaller image"
            _fail(_told(DeviceError(sentence), error), debug)
        if debug:
            raise
        messages.error(
            f"unexpected {type(error).__name__}: {_one_line(str(error))} "
            "(a bug; run again with --debug and report the traceback)"
        )
        sys.exit(1)
    sys.exit(0)


def _told(expected: RegtoolError, cause: BaseException) -> RegtoolError:
    expected.__cause__ = cause
    return expected


def _fail(error: RegtoolError, debug: bool) -> NoReturn:
    if debug:
        import traceback

        traceback.print_exception(error)
    messages.error(_one_line(str(error)))
    sys.exit(error.exit_code)


def _one_line(text: str) -> str:
    return " ".join(text.split())


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
    """Turn SIGTERM into an exception, so that temporary files are removed on the way out."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted("stopped by a signal (SIGTERM)")

    signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    main()
