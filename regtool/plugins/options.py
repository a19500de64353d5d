"""Typed options of a method: the base class, their listing, and ``--set name=value``."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from regtool.errors import UsageError
from regtool.words import in_plain_words

__all__ = [
    "Field",
    "OptionInfo",
    "Options",
    "describe_options",
    "parse_options",
    "split_setting",
]


_LARGEST = 3.4028234e38
"""Of single precision."""


class Options(BaseModel):
    """Base of a method's options: unknown names are refused, values are checked and frozen.

    Give every field a default and a description: ``steps: int = Field(20, ge=1, description=…)``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*")
    @classmethod
    def _in_single_precision(cls, value: Any) -> Any:
        """Tensors are float32: what they cannot hold would fail somewhere inside."""
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, float) and not abs(number) <= _LARGEST:
                raise ValueError("a finite number of single precision is needed")
        return value

    def required_inputs(self) -> Mapping[str, Literal["labels", "points", "masks"]]:
        """Options whose values make no sense unless both images have what is named here.

        A registration without it is refused before anything is computed.
        """
        return {}


@dataclass(frozen=True)
class OptionInfo:
    """One option as a user sees it: name, type in words, default as JSON data, explanation."""

    name: str
    type: str
    default: Any
    help: str


def describe_options(options: type[BaseModel]) -> list[OptionInfo]:
    """Return the fields of an options class in their order."""
    defaults = options.model_construct().model_dump(mode="json", warnings=False)
    return [
        OptionInfo(name, _words(field), defaults.get(name), field.description or "")
        for name, field in options.model_fields.items()
    ]


def parse_options(
    options: type[BaseModel],
    settings: Iterable[str] | Mapping[str, Any],
    method: str = "",
    *,
    kind: str = "method",
) -> Any:
    """Return ``options`` built from ``name=value`` texts, or from a mapping of values.

    A comma separates the values of a sequence; ``none`` is the absent value. The last of repeated
    names wins. ``method`` and ``kind`` say in messages whose options they are. Raises UsageError
    naming the option, what is wrong and what is accepted.
    """
    where = f" of {kind} '{method}'" if method else ""
    values: dict[str, Any] = {}
    items = settings.items() if isinstance(settings, Mapping) else map(split_setting, settings)
    for name, value in items:
        field = options.model_fields.get(name)
        if field is None:
            raise UsageError(_unknown(name, where, options))
        values[name] = _from_text(value, field) if isinstance(value, str) else value
    try:
        return options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        message = in_plain_words(first["msg"])
        if not first["loc"]:  # options that do not go together
            raise UsageError(f"options{where}: {message}") from error
        name = str(first["loc"][0])
        field = options.model_fields.get(name)
        accepted = f" ({_words(field)})" if field else ""
        given = f"{values.get(name)!r}"
        if first["type"] != "literal_error" or not field or len(first["loc"]) > 1:
            given += f": {message}"
        else:
            given += " is none of these"
        raise UsageError(f"option '{name}'{where}{accepted}: {given}") from error


def split_setting(setting: str) -> tuple[str, str]:
    """Split ``name=value``. Raises UsageError for anything else."""
    name, separator, value = setting.partition("=")
    if not separator or not name.strip():
        raise UsageError(f"--set {setting}: write it as name=value")
    return name.strip().replace("-", "_"), value.strip()


def _from_text(text: str, field: FieldInfo) -> Any:
    """Undo what the command line cannot express: absent values and sequences."""
    kinds = _alternatives(field.annotation)
    if type(None) in kinds and text.lower() == "none":
        return None
    if any(typing.get_origin(kind) in (tuple, list) for kind in kinds):
        return [part.strip() for part in text.strip("[]()").split(",") if part.strip()]
    return text


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _words(field: FieldInfo) -> str:
    """The type and the bounds of one field in words: ``float, >= 0``, ``a|b``, ``int or none``."""
    kinds = " or ".join(_kind(kind) for kind in _alternatives(field.annotation))
    return ", ".join([kinds, *_bounds(field.metadata)])


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (tuple, list):
        inner = [_kind(argument) for argument in arguments if argument is not Ellipsis]
        return ",".join(inner) + (",..." if Ellipsis in arguments or origin is list else "")
    if annotation is type(None):
        return "none"
    return getattr(annotation, "__name__", str(annotation))


def _bounds(constraints: Iterable[Any]) -> list[str]:
    signs = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"), ("multiple_of", "multiple of"))
    return [
        f"{sign} {re.sub(r'[.]0$', '', str(getattr(c, attribute)))}"
        for attribute, sign in signs
        for c in constraints
        if getattr(c, attribute, None) is not None
    ]


def _unknown(name: str, where: str, options: type[BaseModel]) -> str:
    known = list(options.model_fields)
    if not known:
        return f"unknown option '{name}': {where.removeprefix(' of ') or 'the method'} has none"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return f"unknown option '{name}'{where}; {hint}"
