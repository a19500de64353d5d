"""What the pictures show: scales, folds, the mesh, arrows, the region of interest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from registration_cases import points_of
from report_views import make_view

from regtool.report import colour
from regtool.report.panels import Panel, panels
from regtool.report.scene import Scene, box_around, make_scene, zoom_of
from regtool.report.slices import key_slice, stacks
from regtool.report.view import ExtraView
from regtool.spatial.jacobian import field_jacobian, folds


def pictures(scene: Scene, plane: int = 0, index: int | None = None) -> dict[str, Panel]:
    """The panels of one slice by key."""
    where = scene.planes[plane]
    chosen = key_slice(scene, where) if index is None else index
    return {panel.key: panel for panel in panels(scene, where, chosen)}


def folding(size: tuple[int, ...] = (24, 20, 10)) -> Any:
    """A field that turns its middle inside out."""
    view = make_view("oblique", size)
    points = points_of(view.grid) - view.grid.centre
    weight = np.exp(-(np.linalg.norm(points, axis=-1) ** 2) / 80)[..., None]
    return make_view("oblique", size, field=(-2.2 * weight * points).astype(np.float32))


def test_folds_are_those_that_are_counted() -> None:
    view = folding()
    scene = make_scene(view)
    counted = folds(field_jacobian(view.field, view.grid)).count
    assert counted > 0 and scene.folded.sum() == counted
    mask = np.zeros(view.grid.shape, dtype=np.uint8)
    mask[:, :, : view.grid.shape[2] // 2] = 1
    import torch

    inside = folds(field_jacobian(view.field, view.grid), torch.from_numpy(mask)).count
    masked = make_view("oblique", view.grid.size, field=view.field, mask=mask)
    assert 0 < make_scene(masked).folded.sum() == inside < counted


def test_fold_squares_cover_the_folded_pixels() -> None:
    scene = make_scene(folding())
    plane = scene.planes[0]
    index = int(scene.folded.sum(axis=tuple(a for a in range(3) if a != plane.axis)).argmax())
    panel = pictures(scene, 0, index)["jacobian"]
    (overlay,) = panel.overlays
    covered = sum(np.ptp(line[:, 0]) * np.ptp(line[:, 1]) for line in overlay.lines)
    expected = plane.take(scene.folded, index).sum()
    assert overlay.group == "fold" and covered == expected
    assert f"{expected} folded here" in panel.caption


@pytest.mark.parametrize("direction", ["identity", "flipped", "oblique", "permuted"])
def test_mesh_is_what_a_warped_drawing_shows(direction: str) -> None:
    """A line of the moving image where x·right = k·mesh is seen where (x + u)·right = k·mesh."""
    shift = (3.0, -2.0, 4.5)
    scene = make_scene(make_view(direction, shift=shift))
    plane = scene.planes[0]
    (overlay,) = pictures(scene)["mesh"].overlays
    index = key_slice(scene, plane)
    corner = plane.world(scene.grid, index)[0, 0]
    for line in overlay.lines:
        pixel = (line - 0.5) * [plane.spacing[1], plane.spacing[0]]
        world = corner + pixel[:, :1] * plane.right + pixel[:, 1:] * plane.down
        read = world + shift
        off = [np.abs(v / scene.mesh - np.rint(v / scene.mesh)).max()
               for v in (read @ plane.right, read @ plane.down)]  # fmt: skip
        assert min(off) < 2e-3


def test_affine_is_part_of_the_mesh() -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    (overlay,) = pictures(make_scene(make_view(affine=turned)))["mesh"].overlays
    steps = [line[-1] - line[0] for line in overlay.lines if len(line) > 1]
    angles = np.rad2deg([np.arctan2(s[1], s[0]) for s in steps]) % 90
    np.testing.assert_allclose(angles, 90 - np.rad2deg(0.3), atol=0.5)


@pytest.mark.parametrize("direction", ["identity", "flipped", "oblique"])
def test_arrows_are_true_to_scale_at_true_aspect(direction: str) -> None:
    shift = np.asarray((5.0, 1.0, -3.0))
    scene = make_scene(make_view(direction, shift=tuple(shift)))
    for n, plane in enumerate(scene.planes):
        (overlay,) = pictures(scene, n)["field"].overlays
        moved = np.stack([line[1] - line[0] for line in overlay.lines])
        mm = moved * [plane.spacing[1], plane.spacing[0]]
        np.testing.assert_allclose(mm, np.broadcast_to([shift @ plane.right, shift @ plane.down],
                                                       mm.shape), atol=1e-4)  # fmt: skip


def test_difference_has_one_scale_and_falls_to_black() -> None:
    shown = pictures(make_scene(make_view()))
    before, after = shown["before"], shown["after"]
    assert before.bar == after.bar and before.bar is not None
    assert before.pixels.max() > 100
    assert after.pixels.max() <= 2  # warped equals fixed; the windows differ by a hair


def test_outlines_before_and_after() -> None:
    shown = pictures(make_scene(make_view()))
    for key in ("fixed", "moving", "warped"):
        solid, dashed = shown[key].overlays
        assert not solid.dashed and dashed.dashed and solid.colour == dashed.colour
    ring, other = shown["moving"].overlays
    apart = other.lines[0].mean(axis=0) - ring.lines[0].mean(axis=0)
    assert apart[0] == pytest.approx(3, abs=0.7)  # 6 mm in pixels of 2 mm, to the patient's left


def test_no_labels_no_outlines_and_one_flat_plane() -> None:
    view = make_view("identity", (40, 30), (1.0, 1.5), fixed_labels=None, moving_labels=None,
                     warped_labels=None)  # fmt: skip
    scene = make_scene(view)
    assert [p.name for p in scene.planes] == ["Image"] and scene.labels == ()
    shown = pictures(scene)
    assert shown["fixed"].overlays == () and shown["fixed"].pixels.shape == (30, 40)


def test_many_labels_draw_the_largest() -> None:
    view = make_view()
    labels = np.zeros(view.grid.shape, dtype=np.int16)
    flat = labels.reshape(-1)
    for label in range(1, 31):
        flat[100 * label : 100 * label + label] = label
    scene = make_scene(make_view(fixed_labels=labels, warped_labels=None, moving_labels=None))
    assert scene.labels == tuple(range(19, 31)) and scene.all_labels == 30


def test_zoom_is_the_box_in_the_picture() -> None:
    for direction in ("identity", "flipped", "permuted", "oblique"):
        scene = make_scene(make_view(direction))
        mark = np.zeros(scene.grid.shape, dtype=bool)
        mark[tuple(slice(a, b) for a, b in scene.box)] = True
        for plane in scene.planes:
            zoom = zoom_of(plane, scene.box)
            picture = plane.take(mark, (sum(scene.box[plane.axis]) // 2))
            rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
            assert rows[0] == pytest.approx(zoom.y * plane.shape[0], abs=0.01)
            assert len(rows) == pytest.approx(zoom.h * plane.shape[0], abs=0.01)
            assert columns[0] == pytest.approx(zoom.x * plane.shape[1], abs=0.01)
            assert len(columns) == pytest.approx(zoom.w * plane.shape[1], abs=0.01)
    assert box_around(np.zeros(scene.grid.shape, dtype=bool), scene.grid) is None


def test_extras_come_on_the_fixed_grid() -> None:
    view = make_view()
    coarse = make_view(size=(20, 18, 10), spacing=(4.0, 4.0, 6.0)).grid
    score = ExtraView(np.full(coarse.shape, 0.5, dtype=np.float32), coarse)
    vectors = ExtraView(np.broadcast_to(np.float32([3, 4, 0]), (*view.grid.shape, 3)), view.grid)
    scene = make_scene(make_view(extras={"score": score, "velocity": vectors}))
    shown = pictures(scene)
    assert shown["extra-score"].pixels.shape == (*scene.planes[0].shape, 3)
    np.testing.assert_allclose(scene.extras["velocity"].values, 5.0)
    with pytest.raises(ValueError, match="does not fit"):
        ExtraView(np.zeros((2, 2, 2)), coarse)


def test_key_slice_goes_through_the_labels() -> None:
    scene = make_scene(make_view())
    for stack in stacks(scene):
        index = stack.slices[stack.key].index
        assert stack.plane.take(scene.view.fixed_labels, index).any()
        assert [s.index for s in stack.slices] == sorted({s.index for s in stack.slices})


def test_the_slice_with_most_folds_is_shown() -> None:
    scene = make_scene(folding((40, 36, 30)))
    for stack in stacks(scene):
        others = tuple(a for a in range(3) if a != stack.plane.axis)
        assert int(scene.folded.sum(axis=others).argmax()) in [s.index for s in stack.slices]


def test_a_small_budget_leaves_the_key_slices() -> None:
    scene = make_scene(make_view())
    assert [len(stack.slices) for stack in stacks(scene, budget=0)] == [1, 1, 1]
    assert [len(stack.slices) for stack in stacks(scene)] == [10, 7, 7]


def test_windows_and_numbers() -> None:
    assert colour.window(np.full(10, 3.0)) == (3.0, 4.0)
    assert colour.window(np.arange(1001)) == (5.0, 995.0)
    assert [colour.nice(v) for v in (0.0, 0.9, 1.0, 11.0, 260.0)] == [1.0, 1.0, 1.0, 15.0, 300.0]
    assert [colour.number(v) for v in (0.0, -1.5, 1234.0, 0.00012)] == [
        "0", "−1.5", "1234", "1.2e−04"]  # fmt: skip
    assert colour.table("residual")[127].max() < 3 and colour.table("viridis").shape == (256, 3)
