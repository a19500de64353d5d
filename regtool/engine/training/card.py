"""The model card of exported weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regtool.words import counted


def card(config: Mapping[str, Any], storage: str) -> str:
    """README.md with Hub metadata: what was trained, on what, how long, with which result."""
    training = config["training"]
    return "\n".join([*_front(config), "", *_body(config, training, storage), ""])


def _front(config: Mapping[str, Any]) -> list[str]:
    spdx = str(config["licence"]).lower()
    usable = spdx.startswith(("cc-", "apache-", "mit", "bsd"))
    lines = ["---", "library_name: regtool", f"license: {spdx if usable else 'other'}"]
    if not usable:
        lines.append(f"license_name: {str(config['licence'])!r}")
    tags = [
        "image-registration",
        "medical-imaging",
        config["method"],
        config["anatomy"],
        config["modality"],
    ]
    lines += ["tags:"] + [f"- {tag}" for tag in dict.fromkeys(tags) if tag != "any"]
    return [*lines, "---"]


def _body(config: Mapping[str, Any], training: Mapping[str, Any], storage: str) -> list[str]:
    facts = {
        "Method": f"`{config['method']}`, preset `{config['preset']}`, {config['ndim']}-D",
        "Data": f"{', '.join(training['data'])}: "
        f"{counted(training['train_pairs'], 'training pair')} "
        f"({examples(training['train_items'], training.get('directions', 'both'))}), "
        f"{counted(training['val_pairs'], 'validation pair')}",
        "Licence": config["licence"],
        "Labels in training": f"yes, soft Dice with weight {training['label_loss']:g}"
        if training["label_loss"]
        else "no",
        **_more_help(training),
        "Started from": training["init_weights"] or "random weights",
        "Steps": f"{training['steps_done']} of {training['steps']}, batch {training['batch']}, "
        f"learning rate {training['lr']:g}",
        "Time": f"{_time(training['seconds'])} on {training['device']}, "
        f"precision {training['precision']}",
        "Seed": training["seed"],
        "Stored as": storage,
        "Versions": f"regtool {training['regtool']}, torch {training['torch']}",
    }
    lines = [
        f"# {config['name']}",
        "",
        "Weights for regtool, trained with `regtool train`.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in facts.items()),
        "",
    ]
    figures = training["validation"]
    if not figures:
        return [*lines, "Not validated: there were no validation pairs."]
    lines += [
        f"Validation at step {training['best_step']} (the network alone, no refinement, "
        "before storing; chosen on these very pairs, so slightly optimistic):",
        "",
        "| figure | value |",
        "|---|---|",
    ]
    names = {
        "dice": "mean Dice",
        "ncc": "correlation",
        "tre": "distance of landmarks, mm",
        "folds": "folds, % of voxels",
        "loss": "loss",
    }
    lines += [
        f"| {names.get(key, key.replace('_', ' of label '))} | {value:.4f} |"
        for key, value in figures.items()
    ]
    return lines


def examples(items: int, directions: str) -> str:
    """How many examples a pass over ``items`` (pairs, or slices of pairs) has: two each, or one."""
    if directions == "both":
        return f"{counted(2 * items, 'example')}, both directions"
    return f"{counted(items, 'example')}, {directions} direction"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _more_help(training: Mapping[str, Any]) -> dict[str, str]:
    """What else than images helped, where it did."""
    rows: dict[str, str] = {}
    if share := training.get("synthesis"):
        rows["Labels in images"] = (
            f"each training image with probability {share:g} in a contrast invented from its "
            "labels; no loss was taken of them"
        )
    if landmarks := training.get("landmarks"):
        rows["Landmarks in training"] = (
            f"yes, all but those of fold {landmarks['fold']} of {landmarks['folds']}, which are "
            f"measured below: {', '.join(landmarks['held_out'])}"
        )
    return rows
