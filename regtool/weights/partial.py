"""Parts of files that killed downloads left in the Hub cache.

The client (huggingface_hub) writes each download to a file of a new name,
``blobs/ETAG.xxx.incomplete``, and never looks at those of earlier ones again. Meanwhile it holds
``.locks/REPOSITORY/ETAG.lock``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def drop_partial(cached: Path) -> None:
    """Remove what is left beside a cached file that is complete now, if nobody downloads it anew.

    Nothing is removed where the file is no link into ``blobs``, or where locks are not to be had.
    """
    if not cached.is_symlink():
        return
    from filelock import FileLock, Timeout

    blob = cached.resolve()
    left = list(blob.parent.glob(f"{blob.name}.*incomplete"))
    repository = blob.parent.parent
    lock = repository.parent / ".locks" / repository.name / f"{blob.name}.lock"
    if not left or not blob.is_file() or not lock.is_file():
        return
    with (
        contextlib.suppress(OSError, NotImplementedError, Timeout),
        FileLock(lock, timeout=0, mode=0o664),
    ):
        for path in left:
            path.unlink(missing_ok=True)
