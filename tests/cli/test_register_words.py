"""What ``register`` says of its weights, its companions and its way."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_cases import QUICK, RECORD, Program, write_table
from registration_cases import (
    body,
    labels_at,
    make_grid,
    points_of,
    read_csv,
    save,
    write_csv,
)

from regtool.cli.outcome import _repaired
from regtool.spatial.grid import Grid

Pair = dict[str, Path]

DOUBT = "are these the labels of these images?"


def said(err: str, word: str) -> list[str]:
    """The lines in which a word stands."""
    return [line for line in err.splitlines() if word in line]


def test_weights_are_named_once(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", tiny["fixed"], tiny["moving"], "-o", "out_", "--overwrite")
    line = "regtool: voxelmorph, weights voxelmorph-acdc-2d (heart (short axis), cine MR)"
    assert said(regtool(*args).ok().err, "weights") == [line]
    assert regtool(*args, "-q").ok().err == ""
    assert said(regtool(*args, *QUICK).ok().err, "weights") == []
    write_table(tmp_path / "t.csv", [("a", tiny), ("b", tiny)])
    ran = regtool("register", "--pairs", "t.csv", "-o", "many").ok()
    assert said(ran.err, "weights") == [line]


def test_own_weights_are_named_by_their_folder_and_data(
    tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    """Whatever they are called inside: these have the shipped ones' name, but not their words."""
    from regtool.plugins import discovery
    from regtool.weights import resolve

    shipped = resolve(discovery.load("voxelmorph"), "voxelmorph-acdc-2d", 2).folder
    assert shipped is not None
    own = tmp_path / "mine"
    own.mkdir()
    (own / "model.safetensors").write_bytes((shipped / "model.safetensors").read_bytes())
    config = json.loads((shipped / "config.json").read_text())
    config["training"]["data"] = ["phantom"]
    (own / "config.json").write_text(json.dumps(config))
    ran = regtool("register", tiny["fixed"], tiny["moving"], "-w", own, "-o", "own_").ok()
    (line,) = said(ran.err, "voxelmorph, weights")
    assert line == f"regtool: voxelmorph, weights {own} (trained on phantom)"


def test_fixed_labels_alone_measure_nothing(tiny: Pair, regtool: Program) -> None:
    given = ("register", *QUICK, tiny["fixed"], tiny["moving"], "--overwrite", "-o", "l_")
    ran = regtool(*given, "--fixed-labels", tiny["fixed_labels"]).ok()
    assert len(said(ran.err, "Dice needs --moving-labels")) == 1
    assert said(regtool(*given, "--moving-labels", tiny["moving_labels"]).ok().err, "Dice") == []


def test_images_far_apart_earn_a_hint(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    spot = np.zeros(grid.shape, np.float32)
    spot[:4, :4] = 1
    other = save(tmp_path / "spot.nii.gz", spot, grid)
    args = ("register", *QUICK, tiny["fixed"], other, "-o", "out_", "--overwrite")
    assert said(regtool(*args).ok().err, "--initial affine")
    assert not said(regtool(*args, "--initial", "com").ok().err, "--initial affine")
    assert not said(
        regtool(*[a if a is not other else tiny["moving"] for a in args]).err, "--initial affine"
    )


def warned(regtool: Program, tmp_path: Path, tiny: Pair, **given: Path) -> list[str]:
    """The warnings of a registration with label maps or landmarks, in all places the same."""
    named = [f"--{name.replace('_', '-')}={path}" for name, path in given.items()]
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--overwrite", *named)
    planned = json.loads(regtool(*args, "--dry-run").ok().out)["warnings"]
    ran = regtool(*args).ok()
    record = json.loads((tmp_path / RECORD).read_text("utf-8"))
    shown = [line.removeprefix("regtool: warning: ") for line in said(ran.err, "warning: ")]
    assert shown == record["warnings"] and set(planned) <= set(shown)
    return list(shown)


def test_labels_that_belong_earn_no_word(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    names = ("fixed_labels", "moving_labels", "fixed_points", "moving_points")
    assert warned(regtool, tmp_path, tiny, **{name: tiny[name] for name in names}) == []


def test_labels_of_another_image(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (30, 30), (2.0, 2.0))
    alien = save(tmp_path / "alien.nii.gz", labels_at(points_of(grid)) * 3, grid)
    both = warned(regtool, tmp_path, tiny, fixed_labels=alien, moving_labels=tiny["moving_labels"])
    assert both == [
        f"{alien}: not on the grid of the fixed image; placed by its own header, nearest label",
        f"{alien} and {tiny['moving_labels']} have no label in common; {DOUBT}",
    ]
    moving = warned(regtool, tmp_path, tiny, moving_labels=alien)
    assert moving == [
        f"{alien}: not on the grid of the moving image; placed by its own header, nearest label"
    ]


def test_labels_that_meet_nowhere(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    one, other = np.zeros((2, *grid.shape), np.uint8)
    one[:3], other[-3:] = 1, 1
    given = {"fixed_labels": save(tmp_path / "top.nii.gz", one, grid),
             "moving_labels": save(tmp_path / "low.nii.gz", other, grid)}  # fmt: skip
    found = warned(regtool, tmp_path, tiny, **given)
    assert found == [f"the labels overlap nowhere, before or after; {DOUBT}"]


def test_labels_elsewhere_have_no_dice(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    far = Grid(grid.size, grid.spacing, grid.direction, tuple(9e3 for _ in grid.origin))
    away = save(tmp_path / "away.nii.gz", np.ones(far.shape, np.uint8), far)
    found = warned(regtool, tmp_path, tiny, fixed_labels=away, moving_labels=away)
    assert found[-1] == f"no label lies on the fixed image, so there is no Dice; {DOUBT}"


def test_intensities_are_no_labels(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    grey = save(tmp_path / "grey.nii.gz", (body(points_of(grid)) * 9).astype(np.int16), grid)
    (sentence,) = warned(regtool, tmp_path, tiny, moving_labels=grey)
    assert sentence.startswith(f"{grey}: ") and sentence.endswith("is this a label map?")


def test_overlap_that_falls(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """The labels lie on each other as the files are, and the start takes them apart."""
    labels = {"fixed_labels": tiny["fixed_labels"], "moving_labels": tiny["fixed_labels"]}
    (sentence,) = warned(regtool, tmp_path, tiny, **labels)
    assert sentence.startswith("the overlap got worse: mean Dice 1.000 before, 0.")
    assert sentence.endswith(" after; look at the result before you use it")


def test_an_image_in_the_place_of_its_labels(tiny: Pair, regtool: Program) -> None:
    args = ("register", *QUICK, tiny["fixed_labels"], tiny["moving_labels"])
    err = regtool(*args, "--fixed-labels", tiny["fixed_labels"], "--moving-labels",
                  tiny["moving_labels"]).ok().err  # fmt: skip
    for role in ("fixed", "moving"):
        slip = f"--{role}-labels {tiny[f'{role}_labels']}: is one of the two images, not a label"
        assert slip in err


def test_labels_that_do_not_arrive(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    far = make_grid("identity", (20, 20), (2.0, 2.0), (5000.0, 5000.0))
    away = save(tmp_path / "away.nii.gz", np.ones(far.shape, np.uint8), far)
    found = warned(regtool, tmp_path, tiny, moving_labels=away)
    empty = f"{away}: no label reaches the fixed image, WarpedLabels is empty; {DOUBT}"
    assert found[-1] == empty


def test_labels_that_are_swapped(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    given = {"fixed_labels": tiny["moving_labels"], "moving_labels": tiny["fixed_labels"]}
    (sentence,) = warned(regtool, tmp_path, tiny, **given)
    right = regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "--json",
                    "--fixed-labels", tiny["fixed_labels"], "--moving-labels",
                    tiny["moving_labels"], "--overwrite").ok()  # fmt: skip
    dice = json.loads(right.out)["dice"]["after"]["mean"]
    assert sentence.endswith(f" (exchanged {dice:.3f}: are the labels swapped?)")


def test_landmarks(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    """Their error is told; those of the other frame of axes lie outside."""
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--fixed-points")
    ran = regtool(*args, tiny["fixed_points"], "--moving-points", tiny["moving_points"]).ok()
    tre = json.loads((tmp_path / RECORD).read_text("utf-8"))["tre_mm"]
    wanted = "TRE {:.2f} mm before, {:.2f} after".format(
        *(tre[when]["mean"] for when in ("before", "after"))
    )
    assert said(ran.err, "TRE") == [f"regtool: {wanted}"]
    points = read_csv(tiny["fixed_points"])
    turned = write_csv(tmp_path / "ras.csv", points * (-1, -1) + (0, 30))
    (sentence,) = warned(regtool, tmp_path, tiny, fixed_points=turned)
    count = len(points)
    tail = "landmarks lie outside the fixed image (LPS mm are expected; RAS?)"
    assert sentence == f"{turned}: {count} of {count} {tail}"
    assert said(regtool("apply", turned, "-t", RECORD).ok().err, tail)
    ran = regtool("apply", tiny["fixed_points"], "-t", RECORD).ok()
    assert not said(ran.err, "warning")
    few = write_csv(tmp_path / "few.csv", points[:3])
    given = {"fixed_points": few, "moving_points": tiny["moving_points"]}
    (sentence,) = warned(regtool, tmp_path, tiny, **given)
    assert sentence.startswith(f"3 fixed and {count} moving landmarks")


def test_a_rehearsal_tells_the_whole_plan(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", tiny["fixed"], tiny["moving"], "--dry-run")
    names = ("initial", "refine", "topology", "inverse", "precision", "seed")

    def plan(*more: str) -> list[object]:
        found = json.loads(regtool(*args, *more).ok().out)
        return [found[name] for name in names]

    assert plan() == ["none", None, "report", False, "fp32", 0]
    given = ("--initial", "com", "--refine", "7", "--topology", "repair", "--inverse", "--seed=3")
    assert plan(*given) == ["com", 7, "repair", True, "fp32", 3]
    volume = save(tmp_path / "v.nii.gz", np.ones((6, 8, 8), np.float32), make_grid(size=(8, 8, 6)))
    args = ("register", "-m", "ad-regnet", volume, volume, "--dry-run")
    assert plan()[0] == "affine", "the weights' own"
    write_table(tmp_path / "t.csv", [("a", tiny)])
    pairs = ("register", "--pairs", "t.csv", "-o", "many", "--dry-run", "--initial", "com")
    assert json.loads(regtool(*pairs).ok().out)["initial"] == "com"


def test_slices_of_a_method_without_2d(regtool: Program, tmp_path: Path) -> None:
    volume = save(tmp_path / "v.nii.gz", np.zeros((6, 8, 8), np.float32), make_grid(size=(8, 8, 6)))
    ran = regtool("register", "-m", "vtn", "--slices", "z", volume, volume)
    assert ran.code == 2
    wanted = "--slices needs a method for 2-D images; vtn registers 3-D images only"
    assert ran.err.startswith(f"regtool: error: {wanted}") and str(volume) not in ran.err


def test_initial_that_is_neither_word_nor_file(tiny: Pair, regtool: Program) -> None:
    wanted = (
        "regtool: error: --initial affin: neither none, com, rigid, affine nor a file; "
        "did you mean 'affine'?"
    )
    for more in ((), ("--dry-run",)):
        args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "--initial", "affin", *more)
        ran = regtool(*args)
        assert ran.code == 2 and ran.err.startswith(wanted)


@pytest.mark.parametrize(
    ("mistake", "code", "words"),
    [
        (("-w", "optimise-acdc"), 4, "optimise-acdc"),
        (("--set", "itterations=3"), 2, "did you mean 'iterations'?"),
        (("--set", "preset=quick"), 2, "option 'preset'"),
        (("--device", "cuda:77"), 6, "--device cuda:77"),
        (("--precision", "fp8"), 2, "--precision fp8"),
        (("--initial", "affin"), 2, "--initial affin"),
        (("--initial", "none.mat"), 3, "none.mat"),
        (("--report", "page.txt"), 2, "--report page.txt"),
    ],
)
def test_a_mistake_is_told_before_an_output_that_is_in_the_way(
    mistake: tuple[str, str], code: int, words: str, tiny: Pair, regtool: Program, tmp_path: Path
) -> None:
    args = ("register", "-m", "optimise", tiny["fixed"], tiny["moving"], "-o", "there_")
    (tmp_path / "there_Warped.nii.gz").write_bytes(b"kept")
    for more in ((), ("--dry-run",)):
        ran = regtool(*args, *mistake, *more)
        assert ran.code == code and words in ran.err
        assert regtool(*args, *more).code == 8
    assert [path.name for path in tmp_path.glob("there_*")] == ["there_Warped.nii.gz"]


def test_a_log_file_hears_of_long_work(tiny: Pair, regtool: Program) -> None:
    """Every half minute, here shorter, a line with the stage and the step in it."""
    args = ("register", *QUICK[:2], "--set", "iterations=150,100", tiny["fixed"], tiny["moving"])
    more = ("-o", "out_", "--overwrite", "--inverse")
    sooner = "import regtool.cli.progress as p; p.PAUSE = 0.01"
    lines = said(regtool(*args, *more, before=sooner).ok().err, "s so far")
    assert any(re.fullmatch(r"regtool: optimise, step \d+ of 250, \d+ s so far", x) for x in lines)
    assert not said(regtool(*args, *more, "-q", before=sooner).ok().err, "so far")
    assert not said(regtool(*args, *more).ok().err, "so far")


def test_verbose_tells_where_and_how_long(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_", "--device", "cpu")
    err = regtool(*args, "-v", "--threads", "1").ok().err
    assert said(err, "device") == ["regtool: device cpu, 1 thread"]
    seconds = json.loads((tmp_path / RECORD).read_text("utf-8"))["seconds"]
    (line,) = said(err, "read ")
    assert f"optimise {seconds['network']:.2f} s" in line


def test_pictures_are_named(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    args = ("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    err = regtool(*args, "--report", "r.html", "--report-pngs", "seen").ok().err
    _, page, pictures = said(err, "wrote")
    assert re.fullmatch(r"regtool: wrote r\.html in \d+\.\d s", page)
    assert pictures == "regtool: wrote its pictures into seen"
    assert any((tmp_path / "seen").iterdir())


def test_apply_tells_of_an_image_out_of_reach(tiny: Pair, regtool: Program, tmp_path: Path) -> None:
    regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_").ok()
    far = make_grid("identity", (20, 20), (2.0, 2.0), (500.0, 500.0))
    image = save(tmp_path / "far.nii.gz", np.ones(far.shape, np.float32), far)
    args = ("apply", image, "-t", RECORD, "-o", "far_there.nii.gz", "--overwrite")
    ran = regtool(*args).ok()
    wanted = f"regtool: warning: nothing of {image} reaches the reference grid; all is 0"
    assert said(ran.err, "warning") == [wanted]
    grid = make_grid("identity", (32, 28), (2.0, 2.0))
    save(image, np.zeros(grid.shape, np.float32), grid)
    assert not said(regtool(*args).ok().err, "warning"), "a black image lies where it should"


def test_a_file_that_exists_has_a_name_and_no_prefix(tiny: Pair, regtool: Program) -> None:
    regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_").ok()
    ran = regtool("apply", tiny["moving"], "-t", RECORD, "-o", "out_Warped.nii.gz")
    assert ran.code == 8 and ran.err.endswith("use --overwrite or another name\n")
    ran = regtool("register", *QUICK, tiny["fixed"], tiny["moving"], "-o", "out_")
    assert ran.code == 8 and ran.err.endswith("use --overwrite or another prefix\n")


def test_one_fold_is_a_voxel() -> None:
    counts = {"before": {"central": 1, "corner": 2}, "changed_voxels": 9, "changed_percent": 1.0,
              "moved_mm_mean": 1.0, "moved_mm_max": 2.0}  # fmt: skip
    assert _repaired(counts).startswith("repair: 1 folded voxel and 2 folded corners removed")
