"""Rigid and affine registration by mutual information (SimpleITK), made deterministic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regtool.errors import GeometryError
from regtool.imaging.itk import grid_of, one_thread, sitk_image
from regtool.imaging.transforms import matrix_of
from regtool.imaging.volume import Volume
from regtool.spatial.grid import Grid, Matrix, centroid

COARSE, MIDDLE, FINE = 32, 64, 112
"""Voxels along the longest edge at each level of the pyramid."""
SAMPLES = 40_000
"""Points at which the metric is evaluated, at most."""
BINS = 32
ITERATIONS = 100
NEWTON_ITERATIONS = 60
THIN = 5
"""With fewer slices than this along an axis, nothing tilts or stretches through the slices."""
STRETCH = (0.5, 2.0)
"""Singular values of a credible affine; outside, the rigid result is kept."""


@dataclass(frozen=True)
class _Side:
    """An image in a frame whose axes are the fixed image's: float32, with a mask perhaps."""

    image: sitk.Image
    mask: sitk.Image | None


def register_linear(
    kind: str,
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    seed: int = 0,
) -> Matrix:
    """The rigid or affine world matrix (LPS mm) from fixed to moving points.

    The problem is solved in the fixed image's own axes, so that thick slices can be told from
    in-plane axes whatever the orientation, and the result does not depend on how the pair lies in
    the scanner. Sums over threads would depend on timing, so ITK uses one. Raises GeometryError
    when no start gives an overlap with contrast, or for a moving slice with a fixed volume.
    """
    fixed, moving = fixed.slice_last(), moving.slice_last()
    flat = fixed.is_one_slice and moving.is_one_slice
    if moving.is_one_slice and not flat:
        raise GeometryError(
            f"{moving.name}: one slice cannot be aligned to a volume by intensity; exchange fixed "
            "and moving, or use --initial com or a transform file"
        )
    frame_f, frame_m = _frames(fixed.grid, moving.grid, flat)
    one = _side(fixed, fixed_mask, frame_f, flat)
    other = _side(moving, moving_mask, frame_m, flat)
    with one_thread:
        solved = _solve(kind, one, other, seed)
    if flat:
        lifted = np.eye(4)
        lifted[:2, :2], lifted[:2, 3] = solved[:2, :2], solved[:2, 2]
        solved = lifted
    return frame_m @ solved @ np.linalg.inv(frame_f)


def _frames(fixed: Grid, moving: Grid, flat: bool) -> tuple[Matrix, Matrix]:
    """World matrices of the frames in which fixed and moving are described.

    Both have the fixed image's axes and its rms radius as unit of length, so that a step of the
    optimiser means the same for matrix entries, angles and shifts. Of two single slices, the
    moving frame is turned the shortest way so that its third axis is normal to the moving slice.
    """
    axes, n = fixed.direction_matrix, fixed.ndim
    unit = float(np.linalg.norm(fixed.extent[: 2 if flat else n])) / 2 / np.sqrt(n)
    frame_f, frame_m = np.eye(n + 1), np.eye(n + 1)
    frame_f[:-1, :-1] = frame_m[:-1, :-1] = axes * unit
    frame_f[:-1, -1] = frame_m[:-1, -1] = fixed.centre
    if flat:
        frame_m[:-1, :-1] = _turn(axes[:, 2], moving.direction_matrix[:, 2]) @ axes * unit
        frame_m[:-1, -1] = _slice_anchor(fixed.centre, moving)
    return frame_f, frame_m


def _slice_anchor(point: Matrix, moving: Grid) -> Matrix:
    """The point of the moving slice's plane that is nearest to ``point``."""
    normal = moving.direction_matrix[:, 2]
    return point + normal * float(normal @ (moving.centre - point))


def _turn(start: Matrix, end: Matrix) -> Matrix:
    """The smallest rotation of one line onto another (Rodrigues), sign of ``end`` ignored."""
    end = end if start @ end >= 0 else -end
    axis, cosine = np.cross(start, end), float(start @ end)
    cross = np.cross(np.eye(3), axis)
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def _side(volume: Volume, mask: Volume | None, frame: Matrix, flat: bool) -> _Side:
    values = np.asarray(volume.array, dtype=np.float32)
    low, high = np.percentile(values, (0.1, 99.9))
    if high > low:
        values = values.clip(low, high)
    image = _in_frame(values, volume.grid, frame, flat)
    inside = None
    if mask is not None:
        mask = mask.slice_last()
        inside = _in_frame((mask.array != 0).astype(np.uint8), mask.grid, frame, flat)
    return _Side(image, inside)


def _in_frame(values: NDArray[np.generic], grid: Grid, frame: Matrix, flat: bool) -> sitk.Image:
    n = grid.ndim
    index_to_frame = np.linalg.inv(frame) @ grid.index_to_world
    spacing = np.linalg.norm(index_to_frame[:n, :n], axis=0)
    direction = index_to_frame[:n, :n] / spacing
    origin = index_to_frame[:n, n]
    if flat:
        values, n = values[0], 2
        left, _, right = np.linalg.svd(direction[:2, :2])
        direction = left @ right
    size = grid.size[:n]
    return sitk_image(
        values, Grid(size, tuple(spacing[:n]), tuple(direction.ravel()), tuple(origin[:n]))
    )


def _solve(kind: str, fixed: _Side, moving: _Side, seed: int) -> Matrix:
    """Rigid over a pyramid from the best start, then affine where it helps."""
    coarse = _level(fixed, COARSE), _level(moving, COARSE)
    tried = [_optimise("rigid", *coarse, start, seed) for start in _starts(fixed, moving)]
    matrix, value = min(tried, key=lambda result: result[1])
    if value >= 0:
        raise GeometryError(
            "the images share too little for an intensity alignment (no overlap, or a constant "
            "image); try --initial com or give a transform file"
        )
    middle = _level(fixed, MIDDLE), _level(moving, MIDDLE)
    fine = _level(fixed, FINE), _level(moving, FINE)
    matrix, rigid_value = _optimise("rigid", *middle, matrix, seed)
    if kind == "affine":
        wider, value = _optimise("affine", *middle, matrix, seed)
        if value < rigid_value and _credible(wider):
            refined, _ = _optimise("affine", *fine, wider, seed)
            return refined if _credible(refined) else wider
    return _optimise("rigid", *fine, matrix, seed)[0]


def _credible(matrix: Matrix) -> bool:
    stretch = np.linalg.svd(matrix[:-1, :-1], compute_uv=False)
    return bool(stretch.min() > STRETCH[0] and stretch.max() < STRETCH[1])


def _starts(fixed: _Side, moving: _Side) -> list[Matrix]:
    """Shifts to begin from: none, between image centres, between centres of intensity."""
    n = fixed.image.GetDimension()
    shifts = [
        np.zeros(n),
        _middle(moving.image) - _middle(fixed.image),
        _mass(moving) - _mass(fixed),
    ]
    result: list[Matrix] = []
    for shift in shifts:
        if all(np.abs(shift - other[:-1, -1]).max() > 0.01 for other in result):
            matrix = np.eye(n + 1)
            matrix[:-1, -1] = shift
            result.append(matrix)
    return result


def _middle(image: sitk.Image) -> Matrix:
    centre = [(s - 1) / 2 for s in image.GetSize()]
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint(centre))


def _mass(side: _Side) -> Matrix:
    values = sitk.GetArrayViewFromImage(side.image).astype(np.float64)
    values -= values.min()
    if side.mask is not None and side.mask.GetSize() == side.image.GetSize():
        values *= sitk.GetArrayViewFromImage(side.mask) > 0
    place = centroid(values, grid_of(side.image))
    return _middle(side.image) if place is None else place


def _level(side: _Side, voxels: int) -> _Side:
    """The image averaged down to about ``voxels`` along its longest edge; thick axes stay."""
    spacing, size = side.image.GetSpacing(), side.image.GetSize()
    target = max(s * n for s, n in zip(spacing, size, strict=True)) / voxels
    factors = [
        max(1, min(int(target / s + 0.5), n // 4)) for s, n in zip(spacing, size, strict=True)
    ]
    return _Side(sitk.BinShrink(side.image, factors), side.mask)


def _optimise(
    kind: str, fixed: _Side, moving: _Side, start: Matrix, seed: int
) -> tuple[Matrix, float]:
    """One level: the matrix found from ``start``, and its metric (lower is better)."""
    image = fixed.image
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    count = int(np.prod(image.GetSize()))
    if count > SAMPLES:
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(SAMPLES / count, seed + 1)  # 0 means the clock
    if fixed.mask is not None:
        method.SetMetricFixedMask(fixed.mask)
    if moving.mask is not None:
        method.SetMetricMovingMask(moving.mask)
    # By default ITK takes gradients of images smoothed by the widest spacing, which are not those
    # of the metric: thick slices then stop the descent early.
    method.SetMetricUseFixedImageGradientFilter(False)
    method.SetMetricUseMovingImageGradientFilter(False)
    transform = _parametrise(kind, fixed, start)
    method.SetInitialTransform(transform, inPlace=True)
    _descend_by(method, kind, image)
    best = (np.inf, transform.GetParameters())

    def keep_best() -> None:  # the optimiser itself returns the last position
        nonlocal best
        if method.GetMetricValue() < best[0]:
            best = method.GetMetricValue(), method.GetOptimizerPosition()

    method.AddCommand(sitk.sitkIterationEvent, keep_best)
    try:
        before = method.MetricEvaluate(image, moving.image)
        method.Execute(image, moving.image)
    except RuntimeError:  # no overlap at this start
        return start, 0.0
    if best[0] >= before:
        return start, before
    transform.SetParameters(best[1])
    return matrix_of(transform), best[0]


def _descend_by(method: sitk.ImageRegistrationMethod, kind: str, image: sitk.Image) -> None:
    """Gradient descent; for an affine matrix, whose parameters differ in curvature, LBFGS."""
    weights = _weights(kind, image)
    if kind == "affine" and not weights:
        method.SetOptimizerAsLBFGS2(
            solutionAccuracy=1e-5, numberOfIterations=NEWTON_ITERATIONS,
            hessianApproximateAccuracy=6,
        )  # fmt: skip
        return
    voxel = min(s for s, n in zip(image.GetSpacing(), image.GetSize(), strict=True) if n > 1)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=voxel, minStep=voxel / 100, numberOfIterations=ITERATIONS,
        relaxationFactor=0.7, gradientMagnitudeTolerance=1e-9,
    )  # fmt: skip
    if weights:
        method.SetOptimizerWeights(weights)


def _parametrise(kind: str, fixed: _Side, start: Matrix) -> sitk.Transform:
    """An ITK transform equal to ``start``, turning about the fixed image's centre of intensity."""
    n = fixed.image.GetDimension()
    centre = _mass(fixed)
    shift = start[:-1, :-1] @ centre + start[:-1, -1] - centre
    transform: sitk.Transform
    if kind == "affine":
        transform = sitk.AffineTransform(n)
        transform.SetMatrix(start[:-1, :-1].ravel().tolist())
    else:
        transform = sitk.Euler3DTransform() if n == 3 else sitk.Euler2DTransform()
        left, _, right = np.linalg.svd(start[:-1, :-1])
        transform.SetMatrix((left @ right).ravel().tolist(), 1e-6)
    transform.SetCenter(centre.tolist())
    transform.SetTranslation(shift.tolist())
    return transform


def _weights(kind: str, image: sitk.Image) -> list[float]:
    """Which parameters are free; those that a thin stack does not determine are not.

    An Euler transform has three angles, an affine one a matrix row by row; then comes the shift.
    """
    if image.GetDimension() == 2 or min(image.GetSize()) >= THIN:
        return []
    thick = np.array([n >= THIN for n in image.GetSize()])
    if kind == "rigid":
        return [*(float(np.delete(thick, axis).all()) for axis in range(3)), 1, 1, 1]
    return [*np.outer(thick, thick).ravel().astype(float).tolist(), 1, 1, 1]
