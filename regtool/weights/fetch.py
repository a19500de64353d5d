"""Weights that have to come from the Hub, or cannot, and what to do then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from regtool.errors import WeightsError
from regtool.plugins.description import WeightsRef
from regtool.weights import hub
from regtool.weights.places import WEIGHTS_DIR_VARIABLE, Found, Source, weights_dir


@dataclass(frozen=True)
class Reach:
    """How far to go for weights: whether and how patiently to ask, which Hub, and which cache."""

    offline: bool
    patience: hub.Patience
    endpoint: str | None
    cache_dir: Path | None


def from_hub(ref: WeightsRef, reach: Reach) -> Found:
    """Fetch named weights at their pinned commit. Raises WeightsError."""
    missing, help_ = check_reach(ref, reach)
    files = _download(str(ref.hub), str(ref.revision), reach, missing, help_)
    return Found("hub", files.config, files.model, ref.hub, files.revision)


def check_reach(ref: WeightsRef, reach: Reach) -> tuple[str, str]:
    """What to say where weights cannot be fetched, and what to do; WeightsError if that is so."""
    missing = f"weights '{ref.name}' are not on this machine"
    if ref.hub is None or ref.revision is None:
        raise WeightsError(
            f"{missing} and not published on the Hub; put their folder into "
            f"{weights_dir()}, or give it with --weights PATH"
        )
    help_ = (
        f"on a machine with internet run 'regtool weights pull {ref.name} --to FOLDER', copy "
        f"FOLDER here and set {WEIGHTS_DIR_VARIABLE}=FOLDER"
    )
    _check_online(reach, missing, help_)
    return missing, help_


def _check_online(reach: Reach, missing: str, help_: str) -> None:
    if reach.offline or hub.is_offline():
        raise WeightsError(f"{missing}, and requests are switched off (offline); {help_}")


def _download(
    repository: str, revision: str, reach: Reach, missing: str, help_: str
) -> hub.HubFiles:
    _check_online(reach, missing, help_)
    try:
        return hub.download(
            repository, revision, patience=reach.patience, endpoint=reach.endpoint,
            cache_dir=reach.cache_dir,
        )  # fmt: skip
    except WeightsError as error:
        raise WeightsError(f"{missing}; {error}; {help_}") from error


def by_hub(spec: str, reach: Reach) -> tuple[Found, tuple[str, ...]]:
    """Files of ``hub:org/repo@revision``, from the cache where they need no request, and warnings.

    Raises UsageError for a malformed reference, WeightsError for files that cannot be had.
    """
    repository, revision = hub.parse_hub(spec)
    pinned = bool(hub.FULL_COMMIT.fullmatch(revision))
    files = hub.cached(repository, revision, reach.cache_dir)
    online = not reach.offline and not hub.is_offline()
    if files is None or (online and not pinned):
        help_ = (
            f"on a machine with internet run 'regtool weights pull {spec} --to FOLDER', copy "
            "FOLDER here and give its subfolder with --weights"
        )
        try:
            files = _download(repository, revision, reach, f"{spec}: not on this machine", help_)
        except WeightsError:
            if files is None:
                raise
    source: Source = "hub" if files.fetched else "cache"
    found = Found(source, files.config, files.model, repository, files.revision)
    return found, () if pinned else (_unpinned(repository, revision, files),)


def _unpinned(repository: str, revision: str, files: hub.HubFiles) -> str:
    stale = "" if files.fetched else " (as cached; it may have moved since)"
    return (
        f"'{revision}' of {repository} is not pinned and can change; it is now {files.revision}"
        f"{stale}; write hub:{repository}@{files.revision} to keep these weights"
    )
