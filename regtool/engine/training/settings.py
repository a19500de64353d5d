"""What a training run was asked for: kept in settings.json, compared on resume."""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from regtool.data.augment import Augment
from regtool.data.cases import is_file_name
from regtool.engine.training.checkpoint import write_atomically
from regtool.errors import InputError, PluginError, UsageError
from regtool.plain import flat
from regtool.words import in_plain_words

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

NO_AUGMENT = Augment.model_validate({})


class LoopSettings(BaseModel):
    """The engine's own keys of a preset's ``training``; the method's keys stand beside them.

    ``training["stages"][NAME]`` may override any of them for one stage.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    log_every: int = Field(0, ge=0, description="steps between log rows; 0: by itself")
    val_every: int = Field(
        0, ge=0, description="steps between validations; 0: steps / 40, 5 at least"
    )
    checkpoint_every: int = Field(0, ge=0, description="steps between checkpoints; 0: by time only")
    checkpoint_seconds: float = Field(300.0, gt=0, description="seconds between checkpoints")
    patience: int = Field(0, ge=0, description="validations without gain before stopping; 0: never")
    min_gain: float = Field(0.0, ge=0, description="what counts as gain for `patience`")
    augment: Augment = NO_AUGMENT
    patch: tuple[int, ...] | None = Field(
        None, description="size of random patches (z, y, x) to train on; None: whole images"
    )
    select: Literal["dice", "loss", "tre"] | None = Field(
        None, description="what picks the best weights; None: Dice, without labels the loss"
    )
    landmark_folds: int = Field(
        0, ge=0, description="folds of the subjects with landmarks; 0: landmarks do not train"
    )
    landmark_fold: int = Field(1, ge=1, description="the fold whose landmarks are held out")
    storage: Literal["float32", "float16", "bfloat16"] = "float16"
    cache: bool = Field(True, description="keep prepared pairs in the run folder")
    channels_last: bool = Field(False, description="memory format; faster for most CNNs")
    slices: int | None = Field(None, description="tensor axis to cut volumes along (2-D presets)")
    directions: Literal["both", "listed", "exchanged"] | None = Field(
        None, description="each pair both ways, as listed, or exchanged; None: `both_directions`"
    )
    both_directions: bool = Field(True, description="older form: both ways, or as listed")
    fields: str | None = Field(
        None,
        description="where fields come from: METHOD, METHOD@WEIGHTS, a folder of records, or "
        "`known` for synthetic pairs",
    )
    fields_options: dict[str, Any] = Field({}, description="options of the method of `fields`")
    name: str | None = Field(None, description="name of the exported weights")

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str | None) -> str | None:
        if name is not None and not is_file_name(name):
            raise ValueError("cannot name a folder")
        return name

    @property
    def ways(self) -> Literal["both", "listed", "exchanged"]:
        """The directions in which pairs are trained."""
        return self.directions or ("both" if self.both_directions else "listed")


ENGINE_KEYS = frozenset(LoopSettings.model_fields)
_FREE_TRAINING = {
    "log_every",
    "val_every",
    "checkpoint_every",
    "checkpoint_seconds",
    "patience",
    "min_gain",
    "storage",
    "cache",
    "name",
}


def loop_settings(preset: Mapping[str, Any], stage: str) -> LoopSettings:
    """The engine's settings for one stage of a preset. Raises UsageError."""
    training = preset.get("training", {})
    try:
        merged = {**training, **training.get("stages", {}).get(stage, {})}
    except (AttributeError, TypeError) as error:
        raise UsageError(f"training: the stage {stage!r} needs a table of settings") from error
    directions, both = merged.get("directions"), merged.get("both_directions")
    if None not in (directions, both) and (directions == "both") is not bool(both):
        raise UsageError(
            f"training.both_directions={both} is an older form and contradicts "
            f"directions={directions}; give one of them"
        )
    try:
        return LoopSettings(**{k: v for k, v in merged.items() if k in ENGINE_KEYS})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"training.{where}: {_in_words(first)}") from error


def _in_words(error: ErrorDetails) -> str:
    """What is wrong with one of the engine's settings."""
    kind, given = error["type"], f"(got {error['input']!r:.60})"
    if kind == "extra_forbidden":
        return _unknown(str(error["loc"][-1]), Augment.model_fields)
    if kind == "tuple_type":
        return f"needs several values, such as 96,96,96 {given}"
    if kind in ("model_type", "dict_type"):
        return f"is a group of settings: KEY=VALUE of one of them is needed {given}"
    return f"{in_plain_words(error['msg'])} {given}"


def _unknown(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown; did you mean {near[0]!r}?" if near else f"unknown; known: {', '.join(known)}"


class RunSettings(BaseModel):
    """settings.json of a run folder."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    method: str
    preset_name: str
    preset: dict[str, Any]
    data: list[str]
    val: str | None = None
    stage: str | None = None
    steps: int | None = None
    lr: float | None = None
    batch: int | None = None
    seed: int = 0
    precision: str = "fp32"
    label_loss: float = 0.0
    init_weights: str | None = None
    deterministic: bool = False
    processes: int = 1
    device: str = "auto"
    threads: int | None = None
    regtool: str = ""
    torch: str = ""


_FREE = {"schema", "device", "regtool", "torch", "threads"}


def write_settings(path: Path, settings: RunSettings) -> None:
    """Write settings.json atomically. Raises OutputError."""
    text = settings.model_dump_json(by_alias=True, indent=2) + "\n"
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def read_settings(path: Path) -> RunSettings:
    """Read settings.json. Raises InputError."""
    try:
        return RunSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file, so there is no run to resume here") from error
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = ": ".join([*(str(part) for part in first["loc"]), first["msg"]])
        raise InputError(
            f"{path}: not the settings of a run this version can resume ({why})"
        ) from error


def differences(old: RunSettings, new: RunSettings) -> list[str]:
    """What differs in a way that matters, one ``name: before, now`` each, in settings order."""
    before, now = (dict(flat(s.model_dump(by_alias=True, mode="json"))) for s in (old, new))
    found = []
    for name in [*before, *(n for n in now if n not in before)]:
        parts = name.split(".")
        free = parts[0] in _FREE or (
            parts[:2] == ["preset", "training"] and parts[-1] in _FREE_TRAINING
        )
        a, b = before.get(name, "absent"), now.get(name, "absent")
        if not free and a != b:
            found.append(f"{name}: {_told(a)} before, {_told(b)} now")
    return found


def _told(value: Any) -> str:
    return "not given" if value is None else repr(value)


def apply_overrides(preset: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """A copy of ``preset`` with ``--set K=V`` applied.

    K is a dotted path such as ``network.features``; keys of ``training`` need not say so. It must
    exist in the preset or be one of the engine's own keys, which a stage that the preset names may
    have for itself (``stages.NAME.KEY``). V is a Python or JSON literal, otherwise a string, and
    must have the type of what it replaces. Raises UsageError.
    """
    result = copy.deepcopy(dict(preset))
    result.setdefault("training", {})
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {assignment!r}: write KEY=VALUE")
        path = key.split(".")
        if len(path) == 1 or path[0] not in result:
            path = ["training", *path]
        _assign(result, path, text, key)
    return result


def _literal(text: str) -> Any:
    named = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last: nested too deeply
        return text


def _assign(tree: dict[str, Any], path: list[str], text: str, key: str) -> None:
    value = _literal(text)
    place = 3 if path[:2] == ["training", "stages"] else 1
    # What stands there is checked by LoopSettings.
    engine = path[0] == "training" and len(path) > place and path[place] in ENGINE_KEYS
    node: Any = tree
    for number, part in enumerate(path[:-1]):
        if engine and number >= place and isinstance(node, dict):
            node.setdefault(part, {})
        node = node.get(part) if isinstance(node, dict) else None
        if node is None:
            raise UsageError(f"--set {key}: the preset has no {part!r}")
    last = path[-1]
    if not isinstance(node, dict):
        raise UsageError(f"--set {key}: {'.'.join(path[:-1])} is a single value")
    if last not in node and not engine:
        known = {*node, *(ENGINE_KEYS if path[0] == "training" else ())}
        raise UsageError(f"--set {key}: {_unknown(last, known)}")
    if not engine and isinstance(node[last], str) and type(value) in (int, float):
        value = text  # the variant 2 is a word that looks like a number
    node[last] = plain(value) if engine else _like(node[last], value, key)


def _like(old: Any, value: Any, key: str) -> Any:
    """``value`` with the type of what it replaces. Raises UsageError."""
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UsageError(f"--set {key}: {value!r:.60} is too large") from None
    if isinstance(old, (list, tuple)) and isinstance(value, (list, tuple)):
        return list(value)
    if old is not None and value is not None and type(old) is not type(value):
        raise UsageError(f"--set {key}: needs {type(old).__name__} like {old!r}, got {value!r:.60}")
    return value


def plain(value: Any, where: str = "preset") -> Any:
    """A preset as JSON-like data (tuples to lists), so that it survives settings.json unchanged.

    Raises PluginError on anything that is no plain data.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, where) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise PluginError(f"{where}: presets hold plain data only, not {type(value).__name__}")
