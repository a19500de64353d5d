"""Turns one entry point into a checked description, whatever the plugin's module does on import."""

from __future__ import annotations

import importlib
import io
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import EntryPoint
from typing import Any

import pluggy

from regtool.errors import PluginError
from regtool.plugins import hookspec
from regtool.plugins.description import API_VERSION, CAPABILITIES, Method
from regtool.plugins.reader import Reader

log = logging.getLogger("regtool.plugins")

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_IMPORT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def load_entry(name: str, value: str, owner: str, *, group: str, strict: bool = False) -> Method:
    """Import one plugin, register it with pluggy, call its hook and check the answer.

    ``name`` and ``value`` are the entry point's, ``owner`` the distribution and version for
    messages. Raises PluginError, its cause being the plugin's own exception.
    """
    label = f"method '{name}' of {owner}"
    with blamed(label, value, strict=strict):
        return _checked(_call(EntryPoint(name, value, group).load(), name), name)


@contextmanager
def blamed(label: str, value: str, *, strict: bool = False) -> Iterator[None]:
    """Make one PluginError, which begins with ``label``, of whatever a plugin raises in here.

    ``value`` is the entry point's. Standard output stays clean, torch's global defaults are kept.
    """
    with _guarded(label, strict=strict):
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may even call sys.exit while it is imported
            raise PluginError(f"{label}: {reason(error, value.partition(':')[0])}") from error


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what a plugin prints to standard error: standard output carries regtool's data only."""
    with redirect_stdout(_ToStderr()):
        yield


def resolve_import(spec: str, what: str = "plugin") -> Any:
    """Return the object that ``"package.module:attribute"`` names, imported under guard.

    ``what`` begins the message, for example ``"model of method 'voxelmorph'"``. Standard output
    stays clean and global torch defaults are put back if the module changes them. Raises
    PluginError, its cause being the original exception.
    """
    module, separator, attribute = spec.partition(":")
    if not separator or not _IMPORT.fullmatch(spec):
        raise PluginError(f"{what}: '{spec}' is not of the form 'package.module:attribute'")
    with _guarded(what):
        try:
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{what}: {reason(error, module)}") from error


def _call(plugin: object, name: str) -> object:
    """Register one plugin in a manager of its own and return what its hook answers."""
    manager = pluggy.PluginManager(hookspec.PROJECT)
    manager.add_hookspecs(hookspec)
    manager.register(plugin, name)
    manager.check_pending()  # a misspelt hook is silent otherwise
    answers = manager.hook.regtool_method()
    if answers:
        return answers[0]
    if hasattr(plugin, "regtool_method") and not manager.hook.regtool_method.get_hookimpls():
        raise PluginError("regtool_method lacks the decorator @hookimpl of regtool.api")
    raise PluginError("no hook regtool_method that returns a Method")


def _checked(method: object, name: str) -> Method:
    """Return the description, or raise PluginError where it breaks the contract visibly."""
    if not isinstance(method, Method):
        raise PluginError(f"regtool_method returned {type(method).__name__}, not a Method")
    check_identity(method, name, "method")
    for problem in _problems(method):
        raise PluginError(problem)
    return method


def check_identity(described: Method | Reader[Any], name: str, kind: str) -> None:
    """Raise PluginError for a description of another contract, or of another name."""
    if not isinstance(described.api, int) or described.api < 1:
        raise PluginError(f"api is {described.api!r}, not a positive whole number")
    if described.api > API_VERSION:
        raise PluginError(
            f"it needs version {described.api} of the {kind} contract and this regtool has "
            f"{API_VERSION}; upgrade regtool"
        )
    if described.name != name:
        raise PluginError(f"it calls itself '{described.name}' but its entry point is '{name}'")
    if not NAME.fullmatch(name):
        raise PluginError(f"the name '{name}' is not lower-case words joined by hyphens")


def _problems(method: Method) -> Iterator[str]:
    if not method.ndim or not set(method.ndim) <= {2, 3}:
        yield f"ndim is {method.ndim!r}; it must be (2,), (3,) or (2, 3)"
    unknown = sorted(set(method.capabilities) - CAPABILITIES)
    if unknown:
        yield f"unknown capability '{unknown[0]}'; known: {', '.join(sorted(CAPABILITIES))}"
    if not isinstance(method.tools, Mapping):
        yield f"tools is {method.tools!r}, not a mapping of modules to what pip installs"
    for field in ("model", "options", "recipe"):
        spec = getattr(method, field)
        if spec is None and field == "recipe":
            continue
        if not isinstance(spec, str) or not _IMPORT.fullmatch(spec):
            yield f"{field} is {spec!r}, not of the form 'package.module:attribute'"


def reason(error: BaseException, module: str = "") -> str:
    """One line saying why a plugin failed, telling stale metadata from a missing dependency."""
    if isinstance(error, PluginError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        if module and (module == error.name or module.startswith(error.name + ".")):
            return (
                f"its metadata names the module '{module}', which is not there (moved, or a stale "
                "installation); reinstall the package"
            )
        return f"it needs the module '{error.name}', which is not installed; install it with pip"
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError) and error.filename:  # its own text has no folder
        text = f"{error.msg} ({error.filename}, line {error.lineno})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _ToStderr(io.TextIOBase):
    """A stream that passes everything on to standard error and remembers that it was used."""

    used = False

    def write(self, text: str) -> int:
        self.used = self.used or bool(text.strip())
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def _guarded(label: str, *, strict: bool = False) -> Iterator[None]:
    """Keep standard output clean and torch's global defaults unchanged while a plugin is imported.

    A plugin that offends is warned about, or refused with PluginError when ``strict``.
    """
    before = _torch_defaults() or ("torch.float32", "cpu", True)
    stream = _ToStderr()
    try:
        with redirect_stdout(stream):
            yield
    finally:
        changed = _restore_torch(before)
    offences = ["prints on import"] if stream.used else []
    if changed:
        offences.append(f"changes torch's global {changed} on import (put back)")
    for offence in offences:
        if strict:
            raise PluginError(f"{label} {offence}")
        log.warning("%s %s", label, offence)


def _torch_defaults() -> tuple[str, str, bool] | None:
    """Default dtype, default device and gradient mode, or None while torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_device"):
        return None
    return str(torch.get_default_dtype()), str(torch.get_default_device()), torch.is_grad_enabled()


def _restore_torch(before: tuple[str, str, bool]) -> str:
    """Put torch's global defaults back; return in words which of them had been changed."""
    after = _torch_defaults()
    if after is None or after == before:
        return ""
    torch = sys.modules["torch"]
    torch.set_default_dtype(getattr(torch, before[0].removeprefix("torch.")))
    if after[1] != before[1]:
        torch.set_default_device(before[1])
    torch.set_grad_enabled(before[2])
    labels = ("default dtype", "default device", "gradient mode")
    return " and ".join(w for w, x, y in zip(labels, before, after, strict=True) if x != y)
