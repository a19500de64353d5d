"""A registration repeated from its record, and compared with what was written then."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from regtool.engine.register import run
from regtool.engine.repeat.compare import Comparison, compare
from regtool.engine.request import FILES, Request
from regtool.engine.task import Report
from regtool.errors import InputError, UsageError
from regtool.imaging.destination import checked_prefix, same_file
from regtool.imaging.initial import INITIAL_KINDS
from regtool.paths import expanded, is_file
from regtool.plugins import discovery
from regtool.record import SUFFIX, input_path, read_record, sha256

_HERE = {"output", "overwrite", "report", "report_pngs", "offline", "device", "threads", "command",
         "fail_if_worse"}  # fmt: skip
"""What a record never decides: where files go, and what belongs to this computer."""
_NAMES = frozenset(f.name for f in fields(Request)) - _HERE


@dataclass(frozen=True)
class Rerun:
    """The comparison of a record with its repetition, and the new record if it was kept."""

    comparison: Comparison
    record: Path | None


def rerun(
    record: str | Path,
    output: str | Path | None = None,
    report: Report | None = None,
    **here: Any,
) -> Rerun:
    """Do again what a record says, and compare the outputs with those beside it, if still there.

    Without ``output`` (a prefix) the new files go to a temporary folder and are removed. ``here``
    are fields of ``Request`` that belong to this computer rather than to the result: ``device``,
    ``threads``, ``offline``, ``overwrite``, ``command``.
    Raises InputError when the record names no files, when an image is missing or is not the one
    that was registered; UsageError when the method's distribution is not installed, or when the new
    files would replace the record; and whatever a registration raises.
    """
    content = read_record(record)
    request = replace(requested(record, content), **here)
    _installed(record, content)
    if output is not None and same_file(Path(checked_prefix(output) + SUFFIX), expanded(record)):
        raise UsageError(
            f"-o {output}: would replace {record}, which is to be compared; choose another prefix"
        )
    for name in ("fixed", "moving"):
        _unchanged(record, content, name, Path(getattr(request, name)))
    with ExitStack() as stack:
        if output is None:
            output = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "again_"
            kept = False
        else:
            kept = True
        again = run(replace(request, output=str(output)), report=report)
        new = again.outputs[SUFFIX]
        return Rerun(compare(record, new, lost=True), new if kept else None)


def requested(record: str | Path, content: Mapping[str, Any]) -> Request:
    """The request of a record; files that moved along with it are found beside it.

    Raises InputError when it does not hold one that files answer, or when a file is gone.
    """
    asked = content.get("request")
    if not isinstance(asked, Mapping) or not {"fixed", "moving"} <= set(asked):
        raise InputError(f"{record}: does not say what was asked for")
    unknown = sorted(set(asked) - _NAMES)
    if unknown:
        raise InputError(f"{record}: asks for {unknown[0]!r}, which is no part of what it repeats")
    if not (isinstance(asked["fixed"], str) and isinstance(asked["moving"], str)):
        raise InputError(
            f"{record}: the images came from memory, not from files; they cannot be found again"
        )
    weights = content.get("weights")
    given = dict(asked)
    if isinstance(weights, Mapping) and weights.get("source") == "path":
        given["weights"] = weights.get("path")  # the very file, of which the record has the hash
    try:
        request = Request(**given)
    except UsageError as error:
        raise InputError(f"{record}: asks for what cannot be: {error}") from error
    named = [name for name in FILES if getattr(request, name) is not None]
    found = {name: input_path(record, content, name) for name in named}
    if request.initial not in (None, *INITIAL_KINDS) and not is_file(expanded(request.initial)):
        beside = expanded(record).parent / Path(request.initial).name
        found["initial"] = beside if is_file(beside) else None
    there: dict[str, Any] = {name: str(path) for name, path in found.items() if path}
    return replace(request, **there)


def _unchanged(record: str | Path, content: Mapping[str, Any], name: str, path: Path) -> None:
    described = content.get(name)
    then = described.get("sha256") if isinstance(described, Mapping) else None
    if then is not None and sha256(path) != then:
        raise InputError(f"{path}: is not the {name} image that {record} is about (other bytes)")


def _installed(record: str | Path, content: Mapping[str, Any]) -> None:
    """Raise UsageError naming the distribution to install where the record's method is gone."""
    method = content.get("method")
    if not isinstance(method, Mapping) or not isinstance(method.get("distribution"), str):
        return
    name, distribution = method.get("name"), method["distribution"]
    if not any(entry.name == name for entry in discovery.installed()):
        raise UsageError(
            f"{record}: method {name!r} of {distribution} is not here; install {distribution} and "
            "run this again"
        )
