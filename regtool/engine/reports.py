"""The page of a registration or of a cohort, written once its files are there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regtool.engine.request import Request
from regtool.errors import OutputError, UsageError
from regtool.imaging.destination import check_folder
from regtool.imaging.volume import Volume
from regtool.imaging.writing import Outputs
from regtool.paths import exists, expanded
from regtool.record import SUFFIX

_PICTURE = re.compile(r"(image|axial|coronal|sagittal)(_\d{3,})?_[A-Za-z0-9.-]+\.png")
"""Names of the pictures of a report (``regtool.report.pngs``)."""

_COHORT_PAGE = re.compile(rb'<meta name="generator" content="regtool [^"]*: [^"]* cohort">')
"""In the head of every page of a cohort (``regtool/report/templates``)."""


def check_report_words(request: Request) -> None:
    """Raise UsageError for a report that makes no sense, whatever there is on the disk."""
    if request.report is None and request.report_pngs is None:
        return
    if request.output is None:
        raise UsageError("report: needs output, the prefix of the files it shows")
    if request.report is not None and Path(request.report).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {request.report}: name a file that ends in .html")


def check_report(request: Request) -> None:
    """Refuse what could not be written, before anything is computed.

    Raises UsageError as ``check_report_words``, OutputError for a page or pictures that exist.
    """
    check_report_words(request)
    if request.report is not None:
        Outputs({"page": request.report}, inputs=request.paths(), overwrite=request.overwrite)
    if request.report_pngs is not None:
        _check_pictures(expanded(request.report_pngs), request.overwrite)


def _check_pictures(folder: Path, overwrite: bool) -> None:
    """Which slices are shown, and so the names, depend on the result; any picture is in the way."""
    check_folder(folder)
    there = [] if overwrite or not exists(folder) else sorted(p.name for p in folder.iterdir())
    pictures = [name for name in there if _PICTURE.fullmatch(name)]
    if pictures:
        raise OutputError(
            f"{folder / pictures[0]}: exists already; use --overwrite or another folder for "
            "--report-pngs"
        )


def write_report(request: Request, outputs: dict[str, Path]) -> None:
    """Write the page of a registration whose files are there, or its pictures, or both."""
    if request.report is None and request.report_pngs is None:
        return
    from regtool.report.files import pair_view_from
    from regtool.report.pair import pair_report

    held: dict[str, Any] = {
        name: value
        for name in ("fixed", "moving", "fixed_labels", "moving_labels", "fixed_mask")
        if isinstance(value := getattr(request, name), Volume)
    }
    view = pair_view_from(outputs[SUFFIX], **held)
    pair_report(view, request.report, request.report_pngs, overwrite=request.overwrite)


def check_cohort_report(request: Request) -> None:
    """``check_report`` for the page of a cohort, which may replace an earlier page of a cohort."""
    page = request.report
    free = request.overwrite or (page is not None and is_cohort_page(page))
    check_report(replace(request, overwrite=free))


def is_cohort_page(page: str | Path) -> bool:
    """Whether a file is a page of a cohort that regtool wrote."""
    try:
        with expanded(page).open("rb") as stream:
            return _COHORT_PAGE.search(stream.read(4096)) is not None
    except OSError:
        return False


def write_cohort_report(
    folder: Path, page: Path, failed: Sequence[Mapping[str, Any]], overwrite: bool = False
) -> None:
    """Write, or write anew, the page of all pairs registered into a folder, and of those failed.

    Raises OutputError for a file that is no such page (without ``overwrite``).
    """
    from regtool.report.cohort import cohort_report
    from regtool.report.files import cohort_rows

    failures = [(one["name"], one["error"]) for one in failed]
    free = overwrite or is_cohort_page(page)
    cohort_report(cohort_rows(folder), page, failures, title=folder.name, overwrite=free)
