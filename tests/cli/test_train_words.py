"""What ``train`` says of data and settings that do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_cases import Program, write_table

SMALL = "phantom:heart2d?n=2&size=32"


def refusal(regtool: Program, *args: object, code: int = 2) -> str:
    """The one line of a training that is refused."""
    ran = regtool("train", "--steps", "1", "-o", "run", *args)
    assert ran.code == code, ran.err
    (line,) = [text for text in ran.err.splitlines() if "error" in text]
    return line


@pytest.mark.parametrize("option", ["--data", "--val"])
def test_two_dimensional_data_of_a_three_dimensional_preset(
    regtool: Program, tmp_path: Path, option: str
) -> None:
    other = ("--data", "phantom:heart3d?n=2&size=16") if option == "--val" else ()
    line = refusal(regtool, "-m", "voxelmorph", "--preset", "acdc-3d", *other, option, SMALL)
    assert line == (
        f"regtool: error: {option} {SMALL}: its images are 2-D, but the preset 'acdc-3d' of "
        "voxelmorph is 3-D; use --preset acdc-2d, or 3-D data such as "
        "phantom:heart3d"
    )
    assert not (tmp_path / "run").exists()


def test_two_dimensional_data_of_a_method_for_volumes(regtool: Program) -> None:
    line = refusal(regtool, "-m", "vtn", "--data", SMALL)
    assert line == (
        f"regtool: error: --data {SMALL}: its images are 2-D, but vtn is for 3-D ones only; use "
        "3-D data such as phantom:heart3d, or a method for 2-D images (regtool methods)"
    )


def test_two_dimensional_files_of_a_table(
    regtool: Program, tmp_path: Path, tiny: dict[str, Path]
) -> None:
    write_table(tmp_path / "t.csv", [("a", tiny), ("b", tiny)])
    line = refusal(regtool, "-m", "voxelmorph", "--preset", "acdc-3d", "--data", "t.csv")
    assert line == (
        f"regtool: error: --data t.csv: its images are 2-D ({tiny['fixed'].name}), but the preset "
        "'acdc-3d' of voxelmorph is 3-D; use --preset acdc-2d, or 3-D data"
    )


def test_a_field_that_is_no_number_ends_in_words(regtool: Program) -> None:
    """The gradient of grid_sample at such a field has ended the process (exit code 139)."""
    ran = regtool("train", "-m", "voxelmorph", "--preset", "acdc-2d", "--data", SMALL, "--lr",
                  "1e30", "--steps", "3", "--set", "cache=false", "-o", "run")  # fmt: skip
    assert ran.code == 2, ran.err
    assert ran.err.splitlines()[-1].endswith(
        "the loss or the weights are no longer finite; train with a lower --lr (--overwrite "
        "replaces the run in run)"
    )


def test_empty_data_are_told(regtool: Program) -> None:
    line = refusal(regtool, "-m", "voxelmorph", "--data", "")
    assert line == (
        "regtool: error: --data: empty; give READER:PATH, a table pairs.csv, or phantom"
    )


def test_a_folder_or_an_image_is_no_data(regtool: Program, tiny: dict[str, Path]) -> None:
    line = refusal(regtool, "-m", "voxelmorph", "--data", tiny["fixed"])
    assert line.endswith(" (for image files write a table with the columns fixed,moving)")
    line = refusal(regtool, "-m", "voxelmorph", "--data", tiny["fixed"].parent)
    assert line.endswith(" (for a folder name its format, as in acdc:FOLDER)")


def test_weights_of_the_registration_do_not_start_the_slices(regtool: Program) -> None:
    data = "phantom:heart3d?n=2&size=16"
    line = refusal(regtool, "-m", "voxelmorph", "--preset", "acdc-3d", "--data", data,
                   "--init-weights", "voxelmorph-acdc-3d", code=4)  # fmt: skip
    assert line == (
        "regtool: error: --init-weights voxelmorph-acdc-3d: they do not fit the stage 'slices', "
        "which comes first; --set slices_first=none trains 'registration' alone, from them"
    )
