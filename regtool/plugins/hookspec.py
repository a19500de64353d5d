"""The one hook a plugin implements, and the markers pluggy needs for it."""

from __future__ import annotations

import pluggy

from regtool.plugins.description import Method

PROJECT = "regtool"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def regtool_method() -> Method:  # type: ignore[empty-body]
    """Return the frozen description of one method; import nothing heavy to do so.

    The plugin is the module (or object) that an entry point of the group ``regtool.methods``
    names; the entry point's name is the method's name.
    """
