"""What a registration came to, in words on stderr and as JSON on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from regtool.cli import common
from regtool.words import counted

if TYPE_CHECKING:
    from regtool.engine.register import Registration

LOW = 0.1
"""Local NCC of images that hardly lie on each other."""


def tell_way(record: dict[str, Any], threads: int | None) -> None:
    """With -v: where it was computed, and the seconds of each step."""
    import torch

    count = threads or torch.get_num_threads()
    common.log.debug("device %s, %s", record["device"], counted(count, "thread"))
    parts = ", ".join(
        f"{record['method']['name'] if part == 'network' else part} {seconds:.2f} s"
        for part, seconds in record["seconds"].items()
        if part != "total"
    )
    common.log.debug("%s", parts)


def tell(
    result: Registration,
    as_json: bool,
    page: Path | None,
    pictures: Path | None,
    seconds: float,
) -> None:
    """Log the figures and the files written; with ``as_json`` print the record.

    ``seconds``: of all, the page among them, which the record cannot hold.
    """
    from regtool.engine.companions import NOTHING

    record = result.record
    local = record["similarity"]["local_ncc"]
    common.log.info("local NCC %.3f before, %.3f after", local["before"], local["after"])
    apart = record["request"]["initial"] is None and record["initial"] in ("none", "com")
    linear = record["method"]["name"] in ("rigid", "affine")
    flat = any(NOTHING in sentence for sentence in record["warnings"])
    if local["before"] < LOW and apart and not linear and not flat:
        common.log.info("the images hardly lie on each other before: try --initial affine")
    if "dice" in record:
        means = [record["dice"][when]["mean"] for when in ("before", "after")]
        if None not in means:
            common.log.info("mean Dice %.3f before, %.3f after", *means)
    tre = record.get("tre_mm", {})
    if "after" in tre:
        error = [tre[when]["mean"] for when in ("before", "after")]
        common.log.info("TRE %.2f mm before, %.2f after", *error)
    if "refine" in record:
        common.log.info(
            "refined: points moved by %.2g mm in the mean", record["refine"]["moved_mm_mean"]
        )
    if "topology" in record:
        common.log.info("%s", _repaired(record["topology"]))
    if "jacobian" in record:
        folded = record["jacobian"]
        common.log.info("folds: %s (%.3g %%)", counted(folded["count"], "voxel"), folded["percent"])
    common.log.info("wrote %s in %.1f s", result.outputs["regtool.json"],
                    record["seconds"]["total"])  # fmt: skip
    if page is not None:
        common.log.info("wrote %s in %.1f s", page, seconds - record["seconds"]["total"])
    if pictures is not None:
        common.log.info("wrote its pictures into %s", pictures)
    if as_json:
        common.print_json(record)


def _repaired(topology: dict[str, Any]) -> str:
    if not topology["changed_voxels"]:
        return "repair: no folds, the field is unchanged"
    before = topology["before"]
    voxels, corners = (
        counted(before[kind], f"folded {noun}")
        for kind, noun in (("central", "voxel"), ("corner", "corner"))
    )
    line = (
        f"repair: {voxels} and {corners} removed, "
        f"{topology['changed_percent']:.2g} % of voxels moved by {topology['moved_mm_mean']:.2g} mm"
        f" (at most {topology['moved_mm_max']:.2g})"
    )
    means = [topology.get("dice", {}).get(when, {}).get("mean") for when in ("before", "after")]
    return line if None in means else line + ", mean Dice {:.4f} to {:.4f}".format(*means)
