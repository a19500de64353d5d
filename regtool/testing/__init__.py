"""Conformance checks that the author of a method or of a data reader runs in pytest.

One line checks everything::

    from regtool.testing import check_method

    def test_conformance():
        check_method("my-method")

or one test for each check, as with scikit-learn's ``parametrize_with_checks``::

    @parametrize_checks(["my-method"])
    def test_conformance(subject, check):
        check(subject)

A reader is checked on data: ``check_reader("my-data:tests/data")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from regtool.plugins.description import Method
from regtool.testing.description import (
    check_description_consistent,
    check_description_light,
    check_imports_resolve,
    check_options_documented,
)
from regtool.testing.direction import check_direction
from regtool.testing.network import (
    check_default_dtype,
    check_degenerate_pairs,
    check_no_grad,
    check_prediction,
    check_presets_build,
    check_seed,
    check_state_dict,
)
from regtool.testing.reader import check_reader
from regtool.testing.subject import Subject
from regtool.testing.training import check_losses, check_recipe

__all__ = ["METHOD_CHECKS", "Subject", "check_method", "check_reader", "parametrize_checks"]

METHOD_CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_description_light,
    check_description_consistent,
    check_imports_resolve,
    check_options_documented,
    check_presets_build,
    check_prediction,
    check_degenerate_pairs,
    check_seed,
    check_no_grad,
    check_default_dtype,
    check_state_dict,
    check_recipe,
    check_losses,
    check_direction,
)
"""Every check, in the order in which a new method passes them."""


def check_method(method: str | Method, *, preset: str | None = None, **settings: Any) -> None:
    """Run every conformance check on an installed method, or on a description.

    Networks are tried with the smallest preset of each dimension, or with ``preset`` alone.
    ``settings`` are further fields of ``Subject``: ``options`` (values of the method's options),
    ``shapes`` (sizes of the test images by dimension), ``steps`` (at most so many training steps
    in the direction check). Raises AssertionError that lists every failed check, and UsageError
    or PluginError when the method cannot be loaded at all.
    """
    subject = Subject(method, preset=preset, **settings)
    total = len(METHOD_CHECKS)
    subject.method  # noqa: B018 - a method that does not load fails here, once and clearly
    failed: list[tuple[str, Exception]] = []
    for check in METHOD_CHECKS:
        try:
            check(subject)
        except Exception as error:  # every check reports, whatever it ran into
            failed.append((check.__name__, error))
    if failed:
        lines = [f"- {name}: {_text(error)}" for name, error in failed]
        head = f"method '{subject.name}' fails {len(failed)} of {total} checks:"
        raise AssertionError("\n".join([head, *lines])) from failed[0][1]


def parametrize_checks(methods: Iterable[str | Method], **settings: Any) -> Any:
    """Return a pytest decorator that gives a test ``subject`` and ``check``, one pair a case.

    ``settings`` are as in ``check_method``. Nothing is loaded while pytest collects.
    """
    import pytest

    subjects = [Subject(method, **settings) for method in methods]
    cases = [
        pytest.param(subject, check, id=f"{subject.name}-{check.__name__.removeprefix('check_')}")
        for subject in subjects
        for check in METHOD_CHECKS
    ]
    return pytest.mark.parametrize(("subject", "check"), cases)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
