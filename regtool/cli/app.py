"""The ``regtool`` program: its commands, its error messages and exit codes.

Nothing but the standard library is imported at the top, so that ``main`` catches signals from the
first moments on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from regtool.errors import Interrupted, RegtoolError, expected

if TYPE_CHECKING:
    import typer


class _Stopped(BaseException):
    """SIGINT or SIGTERM. No Exception, so that nothing on the way out takes it for its own."""


_stopped_by: list[str] = []
"""Names of the signals received; libraries may turn ``_Stopped`` into an error of theirs."""


def create() -> typer.Typer:
    """Build the program with all its commands."""
    import typer

    from regtool.cli import (
        apply,
        demo,
        evaluate,
        jacobian,
        methods,
        plugins,
        register,
        repeat,
        train,
        weights,
    )
    from regtool.cli.common import Command, show_version

    app = typer.Typer(
        name="regtool",
        help="Deformable medical image registration: NIfTI in, NIfTI and ITK transforms out.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(show_version)
    # Typer cuts longer summaries in a terminal of 80 columns.
    for name, command, summary in (
        ("register", register.register, "Register MOVING to FIXED, or all pairs of a table."),
        ("apply", apply.apply, "Apply transforms to an image, a label map or landmarks."),
        ("jacobian", jacobian.jacobian, None),
        ("evaluate", evaluate.evaluate, "Measure registrations: overlap, landmarks, folds, time."),
        ("rerun", repeat.rerun, "Repeat a registration: are the outputs identical?"),
        ("diff", repeat.diff, "Compare two registrations: settings, figures and files."),
        ("train", train.train, None),
        ("methods", methods.methods, "List the installed methods, or show all of one."),
        ("demo", demo.demo, "Write a generated pair of images with labels, to try."),
    ):
        app.command(name, short_help=summary, cls=Command)(command)
    app.add_typer(weights.app, name="weights")
    app.add_typer(plugins.app, name="plugins")
    return app


def main() -> NoReturn:
    """Run the program. Expected errors become one line on stderr and their exit code."""
    debug = "--debug" in sys.argv
    # NumPy only multiplies small matrices here; its waiting threads would take the processor from
    # PyTorch's (benchmarks/cohort.py shows it).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # PyTorch's own wait for each other after every step, and sleep meanwhile. Spinning, they took
    # twice as long beside one busy process and more beside several; on a quiet machine they were a
    # tenth faster (benchmarks/busy.py).
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        _catch_signals()
        _run(debug)
    except _Stopped as error:
        _fail(_interrupted(error), debug)
    finally:
        _flush()
    sys.exit(0)


def _run(debug: bool) -> None:
    from regtool.cli import complete, messages, register, usage

    messages.install()
    try:
        # Not standalone: typer would print its own errors, in three lines, and hide them.
        with complete.whole_words():
            code = create()(args=register.with_default_refine(sys.argv[1:]), standalone_mode=False)
    except SystemExit as end:
        cause = end.__context__  # typer catches a broken pipe itself, and exits with 1
        if not isinstance(cause, BrokenPipeError):
            raise
        if _has_no_reader(1):  # such as head, which has seen enough: not worth a word
            sys.exit(0)
        _fail(expected(cause) or cause, debug)
    except Exception as error:
        if usage.is_help(error):
            print(error, file=sys.stderr)
            sys.exit(2)
        _fail(usage.understood(error) or expected(error) or error, debug)
    if code:  # what typer.Exit carried
        sys.exit(code)


def _has_no_reader(number: int) -> bool:
    """Whether a file descriptor is a pipe or terminal that nobody reads any more."""
    if not hasattr(select, "poll"):  # Windows
        return True
    watch = select.poll()
    watch.register(number, 0)
    return bool(watch.poll(0))


def _flush() -> None:
    """Print what waits in buffers, or throw it away where nobody reads it.

    Python would do so on its way out, and turn a broken pipe into words and exit code 120.
    """
    for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


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
    error = Interrupted(f"stopped by {_stopped_by[0]}")
    error.__cause__ = cause
    return error


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
