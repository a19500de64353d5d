"""The report of one registration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regtool.imaging.writing import Outputs
from regtool.report import numbers, provenance, values
from regtool.report.page import render
from regtool.report.planes import Plane
from regtool.report.scene import MOST_LABELS, Scene, Zoom, make_scene, zoom_of
from regtool.report.slices import Stack, stacks
from regtool.report.values import at, figure, file_name, text
from regtool.report.view import PairView

_TILTED = 10.0
"""Degrees from which a plane is called oblique."""


def pair_report(
    view: PairView,
    path: str | Path | None,
    pngs: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write the page of a registration, and its pictures one by one into the folder ``pngs``.

    Without a ``path`` there are only pictures, without ``pngs`` only the page.

    The page holds everything it shows (pictures as data URIs); it is readable without JavaScript.
    All files appear together and complete, or none does. Returns what was written, the page first.
    Raises OutputError when a file exists (without ``overwrite``) or cannot be written, UsageError
    when the page would replace an input.
    """
    scene = make_scene(view)
    shown = stacks(scene)
    targets: dict[str, Path] = {} if path is None else {"page": Path(path)}
    if pngs is not None:
        from regtool.report.pngs import names, write_png

        keys = [(s.plane, s.slices[s.key].index) for s in shown]
        targets |= {name: Path(pngs) / name for name in names(scene, keys)}
    outputs = Outputs(targets, inputs=_paths(view.record), overwrite=overwrite)
    with outputs:
        if path is not None:
            outputs.text("page", page_of(scene, shown))
        if pngs is not None:
            for plane, index in keys:
                write_png(scene, plane, index, outputs.file)
    return list(outputs.paths.values())


def page_of(scene: Scene, shown: list[Stack]) -> str:
    """The text of the page."""
    view = scene.view
    record = view.record
    zooms = [zoom_of(stack.plane, scene.box) for stack in shown]
    colours = {str(label): scene.colour_of(label) for label in scene.labels}
    moving, fixed = _names(record)
    return render(
        "pair.html.j2",
        "pair.js",
        title=f"{moving} to {fixed}",
        fixed=fixed,
        moving=moving,
        subtitle=_subtitle(view),
        verdict=_verdict(record),
        warnings=values.listed(record.get("warnings")),
        tiles=numbers.tiles(record, scene.displacement),
        sections=[_section(scene, stack, zoom) for stack, zoom in zip(shown, zooms, strict=True)],
        zoomed=any(z.worth for z in zooms),
        box_is=scene.box_is,
        legend=[(scene.colour_of(label), f"label {label}") for label in scene.labels],
        unlisted=scene.all_labels - len(scene.labels),
        most_labels=MOST_LABELS,
        similarity=numbers.similarity(record),
        dice=numbers.dice(record, colours),
        tables=numbers.tables(record, scene.displacement),
        facts=provenance.facts(record),
        command=provenance.command(record),
        inputs=provenance.inputs(record),
        outputs=provenance.outputs(record),
        affine=provenance.affine(record),
        folded=int(scene.folded.sum()),
        mesh=scene.mesh,
        is_2d=scene.grid.ndim == 2,
        has_affine=record.get("affine_is_identity") is False,
        version=values.one_line(at(record, "software", "regtool")),
    )


def _names(record: Mapping[str, Any]) -> tuple[str, str]:
    """What to call the moving and the fixed image: file names, with folders when they are equal."""
    paths = [at(record, which, "path") for which in ("moving", "fixed")]
    for parts in (1, 2):
        moving, fixed = (file_name(path, parts) for path in paths)
        if moving != fixed:
            break
    return moving or "moving image", fixed or "fixed image"


def _section(scene: Scene, stack: Stack, zoom: Zoom) -> dict[str, Any]:
    plane = stack.plane
    height, width = plane.extent
    return {
        "name": plane.name,
        "id": plane.name.lower(),
        "about": _about(plane, scene),
        "letters": plane.letters,
        "slices": stack.slices,
        "key": stack.key,
        "count": plane.count,
        "ratio": round(width / height, 4),
        "zoom": zoom,
        "wide": (zoom.ratio if zoom.worth else width / height) > 1.9,
    }


def _about(plane: Plane, scene: Scene) -> str:
    """How the stack lies: its tilt, its pixels, how it was acquired and registered."""
    parts = []
    if plane.tilt >= _TILTED:
        parts.append(f"oblique, {plane.tilt:.0f}° off the {plane.name.lower()} plane")
    pixel = f"pixels of {plane.spacing[1]:.3g} × {plane.spacing[0]:.3g} mm"
    parts.append(pixel if plane.axis is None else f"{pixel}, slices {plane.gap:.3g} mm apart")
    if plane.axis is not None and plane.gap > 1.5 * min(scene.grid.spacing):
        parts.append("as acquired")
    slices = scene.view.record.get("slices")
    if isinstance(slices, str) and slices.lower() in ("x", "y", "z") and plane.axis is not None:
        own = 2 - "xyz".index(slices.lower()) == plane.axis
        parts.append("each slice registered by itself" if own else "across the slices")
    return "; ".join(parts)


def _subtitle(view: PairView) -> str:
    record = view.record
    parts = [values.one_line(at(record, "method", "name"))]
    weights = at(record, "weights", "name")
    if weights:
        parts.append(values.one_line(weights))
    size, spacing = values.sizes(list(view.grid.size)), values.sizes(list(view.grid.spacing))
    parts.append(f"{view.grid.ndim}-D, {size} voxels of {spacing} mm")
    return " · ".join(parts)


def _verdict(record: Mapping[str, Any]) -> str:
    """What the numbers say, in two sentences."""
    said = [
        sentence
        for sentence in (
            _moved("local similarity", record, ("similarity", "local_ncc"), (), 3, ""),
            _moved("mean overlap (Dice)", record, ("dice",), ("mean",), 3, ""),
            _moved("landmark error", record, ("tre_mm",), ("mean",), 2, " mm"),
        )
        if sentence
    ]
    first = ", ".join(said)
    folds = figure(record, "jacobian", "count")
    second = ""
    if folds is not None:
        share = values.percent(figure(record, "jacobian", "percent"))
        second = (
            "The warp has no folds."
            if folds == 0
            else f"The warp folds at {folds:.0f} voxel{'' if folds == 1 else 's'} ({share})."
        )
    return " ".join(t for t in (f"{first[0].upper()}{first[1:]}." if first else "", second) if t)


def _moved(
    name: str,
    record: Mapping[str, Any],
    keys: tuple[str, ...],
    tail: tuple[str, ...],
    digits: int,
    unit: str,
) -> str:
    before, after = (figure(record, *keys, when, *tail) for when in ("before", "after"))
    if before is None or after is None:
        return ""
    first, last = text(before, digits, unit), text(after, digits, unit)
    if first == last:
        return f"{name} stayed at {last}"
    return f"{name} {'rose' if after > before else 'fell'} from {first} to {last}"


def _paths(record: Mapping[str, Any]) -> list[str]:
    """Input files named in the record, which no report may replace."""
    found = [at(record, w, "path") for w in ("fixed", "moving")]
    companions = record.get("companions")
    found += companions.values() if isinstance(companions, Mapping) else ()
    return [p for p in found if isinstance(p, str) and p]
