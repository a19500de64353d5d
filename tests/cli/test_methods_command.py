"""``regtool methods NAME``: what holds where nothing is set, and what training may set."""

from __future__ import annotations

from cli_cases import Program


def cells(text: str, first: str) -> list[str]:
    """The cells of the line that begins with a word."""
    line = next(line for line in text.splitlines() if line.split()[:1] == [first])
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_options_that_the_weights_set_say_so(regtool: Program) -> None:
    out = regtool("methods", "voxelmorph").ok().out
    assert cells(out, "passes")[2] == "1 (with the shipped weights: 2)"
    out = regtool("methods", "diffusereg").ok().out
    assert cells(out, "steps")[2] == "none (with the shipped weights: 5)"


def test_options_that_a_preset_decides_say_so(regtool: Program) -> None:
    out = regtool("methods", "optimise").ok().out
    assert {cells(out, name)[2] for name in ("window", "iterations", "rate")} == {"by preset"}
    assert cells(out, "bins")[2] == "32"
    assert cells(regtool("methods", "ad-regnet").ok().out, "tile")[2] == "none"


def test_training_steps_and_keys_are_those_of_train(regtool: Program) -> None:
    out = regtool("methods", "voxelmorph").ok().out
    training = out.partition("training (")[2]
    assert cells(training, "paper") == ["paper", "150000"]
    assert "slices_first.steps=2000" in training and "augment.flip" in training
    assert "training (" not in regtool("methods", "rigid").ok().out


def test_presets_are_told_by_what_differs(regtool: Program) -> None:
    out = regtool("methods", "ad-regnet").ok().out
    assert cells(out, "paper-lung")[2] == "as paper, patch=16"
    assert len([line for line in out.splitlines() if len(line) > 250]) <= 2


def test_the_list_tells_what_the_weights_know(regtool: Program) -> None:
    out = regtool("methods").ok().out
    assert cells(out, "voxelmorph")[3] == "heart (short axis), cine MR"
    assert cells(out, "ad-regnet")[3] == "brain, T1 MR; lung, CT"
    assert cells(out, "optimise")[3] == cells(out, "rigid")[3] == "any"
