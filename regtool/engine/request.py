"""What a registration was asked for, and the files it names, read and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from regtool.engine.request_checks import check_fields
from regtool.errors import GeometryError, InputError, UsageError
from regtool.imaging.contents import finite
from regtool.imaging.gridded import on_grid
from regtool.imaging.initial import INITIAL_KINDS
from regtool.imaging.points import read_points
from regtool.imaging.reading import read_image, read_labels, read_mask
from regtool.imaging.volume import Volume
from regtool.paths import exists, expanded
from regtool.plugins.description import Method
from regtool.plugins.options import split_setting
from regtool.prepare.preparation import Preparation
from regtool.weights import is_path

Source = str | Path | Volume
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Request:
    """Everything a user may ask of one registration; names as on the command line.

    Images, masks, labels and ``roi`` are paths or Volumes; points are paths or (N, ndim) arrays in
    LPS mm. ``slices`` is x, y or z of the fixed file. ``settings`` are the method's options.
    ``report``: a page (HTML) of the written result, ``report_pngs`` a folder for pictures of it.
    ``refine``: at most so many steps of instance optimisation after the method, on each of three
    levels. ``fill``: intensity of warped images beyond the image they were read from.
    Raises UsageError for a value of another kind than its field takes.
    """

    fixed: Source
    moving: Source
    method: str = "voxelmorph"
    output: str | Path | None = None
    weights: str | Path | None = None
    initial: str | Path | None = None
    fixed_mask: Source | None = None
    moving_mask: Source | None = None
    fixed_labels: Source | None = None
    moving_labels: Source | None = None
    fixed_points: str | Path | Points | None = None
    moving_points: str | Path | Points | None = None
    slices: str | None = None
    roi: Source | None = None
    inverse: bool = False
    composite: bool = False
    refine: int | None = None
    topology: Literal["off", "report", "repair"] = "report"
    fill: float = 0.0
    fail_if_worse: bool = False
    settings: Sequence[str] | Mapping[str, Any] = field(default_factory=tuple)
    device: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    seed: int = 0
    offline: bool = False
    overwrite: bool = False
    report: str | Path | None = None
    report_pngs: str | Path | None = None
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the kinds of all values."""
        check_fields(vars(self))

    def asked(self) -> dict[str, Any]:
        """What decides the result, as JSON: files by their absolute path, arrays left out."""
        return {
            **{name: _absolute(getattr(self, name)) for name in sorted(FILES)},
            **{name: getattr(self, name) for name in _PLAIN},
            "initial": self.initial if self.initial in _NO_FILES else _absolute(self.initial),
            "settings": {key: str(value) for key, value in self._settings().items()},
            # Only where it is given: records from before it existed are no others for that.
            **({"fill": float(self.fill)} if self.fill else {}),
        }

    def paths(self) -> list[Path]:
        """The input files, for the check that none of them is an output.

        Transforms to begin with are among them where they are files. The state that a sampling
        goes on from is not: the result may take its place.
        """
        named = [getattr(self, f.name) for f in fields(self) if f.name in FILES]
        more = None if self.initial in _NO_FILES else self.initial, self._settings().get("warm")
        named += [v for v in more if isinstance(v, str | Path) and exists(expanded(v))]
        return [expanded(v) for v in named if isinstance(v, str | Path)]

    def _settings(self) -> dict[str, Any]:
        """The method's options by name."""
        given = self.settings
        pairs = given.items() if isinstance(given, Mapping) else map(split_setting, given)
        return {str(key): value for key, value in pairs}


FILES = {
    "fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels",
    "fixed_points", "moving_points", "roi",
}  # fmt: skip


_PLAIN = ("method", "weights", "slices", "inverse", "composite", "refine", "topology",
          "precision", "seed")  # fmt: skip


_FILE_OPTIONS = ("warm", "resume")
"""Options of methods with warm starts that name a file."""


_NO_FILES = (None, *INITIAL_KINDS)


def _absolute(source: object) -> str | None:
    if not isinstance(source, str | Path):
        return None
    text = os.fspath(source)  # a table may have ten thousand rows: no new Path for each
    if text.startswith("~"):
        text = str(expanded(text))
    return text if os.path.isabs(text) else str(Path.cwd() / text)  # noqa: PTH117


def located(request: Request, method: Method) -> Request:
    """The request with absolute paths where its weights and options of ``method`` name files.

    Names of weights stay names. A record of it can then be repeated from any folder.
    """
    weights = None if request.weights is None else str(request.weights)
    if weights is not None and not Path(weights).is_absolute() and is_path(method, weights):
        weights = _absolute(weights)
    settings = request.settings
    if "warm" in method.capabilities and settings:
        given = dict(settings if isinstance(settings, Mapping) else map(split_setting, settings))
        named = {key: given[key] for key in _FILE_OPTIONS if isinstance(given.get(key), str)}
        files = {key: _absolute(path) for key, path in named.items() if exists(expanded(path))}
        settings = {**given, **files} if files else settings
    return replace(request, weights=weights, settings=settings)


@dataclass(frozen=True)
class Inputs:
    """The images of a request in memory, with the warnings met while reading."""

    fixed: Volume
    moving: Volume
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    fixed_labels: Volume | None = None
    moving_labels: Volume | None = None
    fixed_points: Points | None = None
    moving_points: Points | None = None
    roi: Volume | None = None

    @property
    def warnings(self) -> list[str]:
        """Sentences about odd headers, each once."""
        volumes = (getattr(self, f.name) for f in fields(self))
        found = [w for v in volumes if isinstance(v, Volume) for w in v.warnings]
        return list(dict.fromkeys(found))


def read_inputs(request: Request) -> Inputs:
    """Read and check all files of a request.

    Raises InputError and GeometryError naming the file.
    """
    fixed, moving = _image(request.fixed), _image(request.moving)
    if fixed.ndim != moving.ndim:
        raise GeometryError(
            f"{fixed.name} is {fixed.ndim}-D and {moving.name} is {moving.ndim}-D; "
            f"both images must have the same dimension{_one_slice_hint(fixed, moving)}"
        )
    for image in (fixed, moving):
        if sum(n > 1 for n in image.grid.size) < 2:
            raise GeometryError(f"{image.name}: size {image.grid.size} is too small to register")
    return Inputs(
        fixed,
        moving,
        _mask(request.fixed_mask, fixed),
        _mask(request.moving_mask, moving),
        _companion(request.fixed_labels, fixed, read_labels),
        _companion(request.moving_labels, moving, read_labels),
        _points(request.fixed_points, fixed),
        _points(request.moving_points, moving),
        _mask(request.roi, fixed),
    )


def _one_slice_hint(fixed: Volume, moving: Volume) -> str:
    solid = fixed if fixed.ndim == 3 else moving
    if not solid.is_one_slice:
        return ""
    return f" ({solid.name} has one slice: store both as 2-D images, or both with one slice)"


def _image(source: Source) -> Volume:
    volume = finite(source) if isinstance(source, Volume) else read_image(source)
    if volume.kind != "scalar":
        raise InputError(f"{volume.name}: is {volume.kind}; a scalar image is needed")
    return volume


def _companion(source: Source | None, image: Volume, reader: Any) -> Volume | None:
    """A mask or label map of ``image``; it may have another grid, not another dimension."""
    if source is None:
        return None
    volume = finite(source) if isinstance(source, Volume) else reader(source)
    if volume.ndim != image.ndim:
        raise GeometryError(
            f"{volume.name} is {volume.ndim}-D, but {image.name}, to which it belongs, "
            f"is {image.ndim}-D"
        )
    return volume


def _mask(source: Source | None, image: Volume) -> Volume | None:
    """A mask that has something of ``image`` inside. Raises GeometryError for any other."""
    mask = _companion(source, image, read_mask)
    if mask is not None and not mask.array.any():
        raise GeometryError(f"{mask.name}: the mask is empty")
    if mask is not None and not on_grid(mask, image.grid).any():
        raise GeometryError(f"{mask.name}: the mask does not lie on {image.name}")
    return mask


def _points(source: str | Path | Points | None, image: Volume) -> Points | None:
    if source is None:
        return None
    if isinstance(source, np.ndarray):
        points, name = source, "landmarks"
    else:
        points, name = read_points(source).points, str(source)
    if points.ndim != 2 or points.shape[1] < image.ndim:
        raise InputError(f"{name}: landmarks need {image.ndim} coordinates each")
    if not len(points) or not np.isfinite(points).all():
        raise InputError(f"{name}: landmarks are one or more rows of finite numbers, in mm")
    return points[:, : image.ndim]


def slice_axis(fixed: Volume, method: Method, slices: str | None) -> int | None:
    """The tensor axis along which a 2-D method goes through a volume; None for whole images.

    A volume of one slice needs no ``--slices``. Raises UsageError when method and image do not fit.
    """
    if fixed.ndim == 2:
        if slices is not None:
            raise UsageError(f"--slices {slices}: {fixed.name} is 2-D and has no slices")
        _require(method, 2, fixed)
        return None
    thin = [axis for axis, n in enumerate(fixed.grid.shape) if n == 1]
    if slices is not None:
        if slices.lower() not in ("x", "y", "z"):
            raise UsageError(f"--slices {slices}: choose x, y or z of the fixed image")
        if 2 not in method.ndim:
            raise UsageError(
                f"--slices needs a method for 2-D images; {method.name} registers "
                f"{method.ndim[0]}-D images only ('regtool methods' lists those for 2-D)"
            )
        return 2 - "xyz".index(slices.lower())
    if thin:
        _require(method, 2, fixed)
        return thin[0]
    if 3 not in method.ndim:
        raise UsageError(
            f"method '{method.name}' registers 2-D images and {fixed.name} is a volume of size "
            f"{fixed.grid.size}; add --slices z to register it slice by slice"
        )
    return None


def _require(method: Method, ndim: int, fixed: Volume) -> None:
    if ndim not in method.ndim:
        raise UsageError(
            f"method '{method.name}' registers {method.ndim[0]}-D images only, not {fixed.name} "
            f"of size {fixed.grid.size}; 'regtool methods' lists those for {ndim}-D"
        )


def refuse_ignored(method: Method, inputs: Inputs | Request) -> None:
    """Raise UsageError for masks that the method would ignore.

    Labels and points are never refused: they serve to measure the result at least.
    """
    if "masks" not in method.capabilities and (inputs.fixed_mask or inputs.moving_mask):
        raise UsageError(
            f"method '{method.name}' does not use masks; leave out --fixed-mask and --moving-mask "
            "(--roi places the box of a method that has one)"
        )


def refuse_ignored_roi(method: Method, inputs: Inputs | Request, preparation: Preparation) -> None:
    """Raise UsageError for a ``roi`` where the preparation places no box on it.

    Tiles, axes without a size and axes that are fitted cover the whole image.
    """
    fitted = preparation.fit or (False,) * preparation.ndim
    sides = zip(preparation.size, fitted, strict=True)
    boxed = preparation.outside != "tiles" and any(n is not None and not fit for n, fit in sides)
    if inputs.roi is not None and not boxed:
        raise UsageError(
            f"method '{method.name}' works on the whole image and places no box; leave out --roi"
        )
