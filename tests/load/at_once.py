"""Forks that run the program at the same moment, from a process that has imported it already.

    python at_once.py ORDERS.json

ORDERS is a list of ``{"args": [...], "out": FILE, "err": FILE}``. A process of its own for each,
with its own locks and files; only the seconds of importing are shared. Printed: their exit codes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def become(order: dict[str, Any], start: float) -> None:
    """Turn this fork into the command at the moment ``start``, and end it."""
    for number, name in ((1, order["out"]), (2, order["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = ["regtool", *order["args"]]
    code = 1
    try:
        from regtool.cli.app import main

        time.sleep(max(0.0, start - time.monotonic()))
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(orders: list[dict[str, Any]]) -> list[int]:
    """Exit codes of all, in their order; minus the signal for one that was killed."""
    import huggingface_hub

    import regtool.engine.register  # noqa: F401

    assert huggingface_hub.hf_hub_download  # lazily imported
    start = time.monotonic() + 0.3
    children = []
    for order in orders:
        child = os.fork()
        if child == 0:
            become(order, start)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


if __name__ == "__main__":
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text("utf-8")))))
