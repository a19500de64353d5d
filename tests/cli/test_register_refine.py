"""``register --refine [N]`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_cases import Program

from regtool.cli.register import with_default_refine

METHOD = ("register", "-m", "voxelmorph", "--weights", "none")


@pytest.mark.parametrize(("given", "count"), [
    (("--refine",), 50), (("--refine", "3"), 3), (("--refine=4",), 4), ((), None),
])  # fmt: skip
def test_the_number_may_be_left_out(
    given: tuple[str, ...], count: int | None, tiny: dict[str, Path], regtool: Program,
    tmp_path: Path,
) -> None:  # fmt: skip
    ran = regtool(*METHOD, *given, tiny["fixed"], tiny["moving"], "-o", "out_").ok()
    record = json.loads((tmp_path / "out_regtool.json").read_text("utf-8"))
    if count is None:
        assert "refine" not in record
        return
    assert record["refine"]["iterations"] == count
    assert "refined: points moved by" in ran.err
    assert record["similarity"]["local_ncc"]["after"] > record["similarity"]["local_ncc"]["before"]
    assert record["seconds"]["refine"] > 0


def test_no_steps_are_no_refinement(
    tiny: dict[str, Path], regtool: Program, tmp_path: Path
) -> None:
    for wrong in ("0", "-3"):
        ran = regtool(*METHOD, "--refine", wrong, tiny["fixed"], tiny["moving"], "-o", "out_")
        assert ran.code == 2 and "--refine" in ran.err
    assert not list(tmp_path.glob("out_*"))


def test_only_register_has_it() -> None:
    assert with_default_refine(["apply", "--refine"]) == ["apply", "--refine"]
    assert with_default_refine(["register", "--refine"]) == ["register", "--refine=50"]
