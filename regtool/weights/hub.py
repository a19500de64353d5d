"""Weights on the Hugging Face Hub: pinned cache first, then a bounded download of two files."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import regtool
from regtool.errors import UsageError, WeightsError
from regtool.weights.answers import checked_answers
from regtool.weights.files import CONFIG_FILE, MODEL_FILE
from regtool.weights.partial import drop_partial

if TYPE_CHECKING:
    from collections.abc import Callable

FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(
    r"(?!.*(--|\.\.))(?!.*\.git$)[A-Za-z0-9][\w.-]*(?<![.-])/[A-Za-z0-9][\w.-]*(?<![.-])", re.ASCII
)
_REVISION = re.compile(r"[\w][\w./-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_PORTS = {"https": 443, "socks5": 1080, "socks5h": 1080}
_HEAD_TIMEOUT = 10.0
_LONGEST_WAIT = 8.0


class UnreachableError(WeightsError):
    """Nothing answers at the Hub's address: this machine may have no internet."""


@dataclass(frozen=True)
class Patience:
    """How long to try: seconds for the first connection, and waits between tries when busy."""

    connect: float
    waits: tuple[float, ...]


HURRIED = Patience(1.5, (0.5, 1.0))
"""For a registration: a machine without internet must be told so at once."""
PATIENT = Patience(10.0, (1.0, 2.0, 4.0))
"""For an explicit ``weights pull``."""


@dataclass(frozen=True)
class HubFiles:
    """Both files of one commit, in the Hub cache. ``fetched`` tells a download from a cache hit."""

    config: Path
    model: Path
    revision: str
    fetched: bool


def parse_hub(spec: str) -> tuple[str, str]:
    """Split ``hub:org/repo[@revision]`` into repository and revision (default ``main``).

    Raises UsageError if it is not of that form.
    """
    repository, _, revision = spec.removeprefix("hub:").partition("@")
    revision = revision or "main"
    sound = is_repository(repository) and _REVISION.fullmatch(revision)
    if not sound or len(revision) > 250 or ".." in revision:
        raise UsageError(f"{spec}: not of the form hub:org/repo@revision")
    return repository, revision


def is_repository(text: str) -> bool:
    """Whether it is ``org/repo`` as the Hub's client wants it."""
    return len(text) <= 96 and _REPOSITORY.fullmatch(text) is not None


def is_offline() -> bool:
    """Whether the environment forbids requests (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cached(repository: str, revision: str, cache_dir: Path | None = None) -> HubFiles | None:
    """Both files from the Hub cache, by path: no request, no lock, nothing written."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config, model = (
            try_to_load_from_cache(repository, name, cache_dir=cache_dir, revision=revision)
            for name in (CONFIG_FILE, MODEL_FILE)
        )
    except OSError:  # a cache of somebody else's that may not be read
        return None
    if not isinstance(config, str) or not isinstance(model, str):
        return None
    # snapshots/<commit>/<file>: the commit that a branch stood at when it was fetched
    return HubFiles(Path(config), Path(model), Path(model).parent.name, fetched=False)


def stored_hash(model: Path) -> str | None:
    """The SHA-256 under which the Hub stored a cached file, where the cache knows it.

    The client names a blob by the server's ETag, which for large files is their SHA-256, but never
    compares it with the content.
    """
    try:
        name = model.readlink().name
    except OSError:
        return None
    return name if _SHA256.fullmatch(name) else None


def download(
    repository: str,
    revision: str,
    *,
    patience: Patience = HURRIED,
    endpoint: str | None = None,
    cache_dir: Path | None = None,
    force: bool = False,
) -> HubFiles:
    """Fetch config.json and model.safetensors of one commit into the Hub cache.

    A branch or tag is first turned into its commit, so that both files belong together. One cheap
    HEAD request comes before the client's own, which retries for 23 s against a dead server.
    ``force`` replaces what is cached. Raises WeightsError with the reason in a few words.
    """
    from huggingface_hub import constants, hf_hub_download

    endpoint = endpoint or constants.ENDPOINT
    where = f"{repository}@{revision}"
    _probe(endpoint, patience.connect)
    with checked_answers():
        commit = _commit_of(repository, revision, endpoint, patience)

    def fetch(name: str) -> Path:
        return Path(
            hf_hub_download(
                repository, name, revision=commit, library_name="regtool",
                library_version=regtool.__version__, cache_dir=cache_dir, endpoint=endpoint,
                force_download=force,
            )
        )  # fmt: skip

    if force:
        _drop_bare_copies(repository, commit, cache_dir)
    with checked_answers():
        config = explained(lambda: fetch(CONFIG_FILE), where)
        model = explained(lambda: fetch(MODEL_FILE), where)
    for path in (config, model):
        drop_partial(path)
    return HubFiles(config, model, commit, fetched=True)


def require_endpoint() -> None:
    """Raise WeightsError unless something listens at the Hub's address."""
    from huggingface_hub import constants

    _probe(constants.ENDPOINT, PATIENT.connect)


def check_published(repository: str, commit: str, digest: str) -> None:
    """Raise WeightsError if the Hub says that its model file has another SHA-256."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, MODEL_FILE, revision=commit)
    etag = explained(lambda: get_hf_file_metadata(url, timeout=_HEAD_TIMEOUT).etag, repository)
    if etag and _SHA256.fullmatch(etag) and etag != digest:
        raise WeightsError(f"{repository}@{commit}: the published file is damaged; push it again")


def _drop_bare_copies(repository: str, commit: str, cache_dir: Path | None) -> None:
    """Remove cached files that are no links: the client would never replace those."""
    from huggingface_hub import try_to_load_from_cache

    for name in (CONFIG_FILE, MODEL_FILE):
        path = try_to_load_from_cache(repository, name, cache_dir=cache_dir, revision=commit)
        if isinstance(path, str) and not Path(path).is_symlink():
            try:
                Path(path).unlink()
            except OSError as error:
                raise WeightsError(f"{path}: cannot be replaced ({error.strerror})") from error


def _probe(endpoint: str, seconds: float) -> None:
    """Raise WeightsError unless something listens at the endpoint (or at the proxy to it)."""
    from urllib.request import getproxies, proxy_bypass

    url, proxies = urlsplit(endpoint), getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    target = urlsplit(proxy) if proxy and not proxy_bypass(url.netloc) else url
    host, port = target.hostname, target.port or _PORTS.get(target.scheme, 80)
    if not host and target is not url:
        return  # a proxy spelt in a way that only the client may understand
    if not host:
        raise WeightsError(f"the Hub cannot be reached ('{endpoint}' is no address)")
    outcome: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            outcome.append("")
        except OSError as error:
            outcome.append(error.strerror or str(error))

    # A look-up of the name has no timeout of its own, so the whole attempt runs aside.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    problem = outcome[0] if outcome else f"no answer within {seconds:g} s"
    if problem:
        raise UnreachableError(f"the Hub cannot be reached ({host}:{port}: {problem})")


def _commit_of(repository: str, revision: str, endpoint: str, patience: Patience) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    where = f"{repository}@{revision}"
    url = hf_hub_url(repository, MODEL_FILE, revision=revision, endpoint=endpoint)
    metadata = explained(
        lambda: _patiently(
            lambda: get_hf_file_metadata(url, timeout=_HEAD_TIMEOUT, endpoint=endpoint),
            patience.waits,
        ),
        where,
    )
    commit = metadata.commit_hash
    if not commit or not metadata.etag or not FULL_COMMIT.fullmatch(commit):
        raise WeightsError(
            f"{endpoint} does not answer like a Hub (no commit or ETag in the headers); "
            "check HF_ENDPOINT, or the proxy in between"
        )
    if FULL_COMMIT.fullmatch(revision) and commit != revision:
        raise WeightsError(f"{endpoint} answered with commit {commit} when asked for {revision}")
    return str(commit)


def _patiently(request: Callable[[], Any], waits: tuple[float, ...]) -> Any:
    """Repeat a request while the server says that it is busy; some clients wait by themselves."""
    deadline = time.monotonic() + sum(waits) + _LONGEST_WAIT
    for wait in waits:
        try:
            return request()
        except Exception as error:
            response: Any = getattr(error, "response", None)
            busy = getattr(response, "status_code", None) in _BUSY
            if not busy or time.monotonic() > deadline:
                raise
            asked = wait
            with suppress(TypeError, ValueError):  # absent, or a date
                asked = max(wait, float(response.headers.get("Retry-After")))
            time.sleep(min(asked, _LONGEST_WAIT))
    return request()


def explained(request: Callable[[], Any], where: str) -> Any:
    """Run a call of the Hub client; WeightsError says in a few words why it failed.

    The client's exceptions share no base class across its versions and HTTP libraries.
    """
    try:
        return request()
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "access is restricted; ask for it on its page and log in with 'hf auth login'"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository on the Hub, or a private one; check the name or log in"
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision in this repository"
    if isinstance(error, errors.LocalEntryNotFoundError):
        cause = error.__cause__
        return _reason(cause) if isinstance(cause, Exception) else "the Hub cannot be reached"
    if isinstance(error, errors.EntryNotFoundError):
        return f"the repository lacks {MODEL_FILE} or {CONFIG_FILE} at this revision"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "not authorised; log in with 'hf auth login' or set HF_TOKEN"
    if status is not None:
        return f"the Hub answered {status}; try again later"
    if isinstance(error, OSError) and error.errno is not None:
        return (
            f"cannot write to the Hub cache ({error.strerror}: {error.filename}); "
            "set HF_HUB_CACHE to a folder of yours"
        )
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
