"""Target: the answers of a Hub, from a server on this machine that says whatever it is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from fuzz_mutation import WORDS, damaged, tree
from fuzz_seeds import Seeds
from fuzz_target import Target

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLACES = ("../" * 12 + "escaped", "/escaped", "../../blobs/x", "..", ".", "a/b", "%2e%2e/x",
          "..\\..\\x", "x" * 300, "\u00e9", "")  # fmt: skip
HEADERS = ("ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Linked-Size", "Content-Length", "Location",
           "X-Error-Code", "X-Error-Message", "X-Xet-Hash", "Content-Encoding", "Content-Type",
           "Retry-After", "Link", "Transfer-Encoding", "Content-Range")  # fmt: skip
VALUES: dict[str, tuple[str, ...]] = {
    "ETag": (*(f'"{p}"' for p in PLACES), *PLACES, '"' + "0" * 64 + '"', 'W/"abc"'),
    "X-Linked-Etag": (*(f'"{p}"' for p in PLACES), '"' + "f" * 64 + '"'),
    "X-Repo-Commit": (*PLACES, "f" * 40, COMMIT.upper(), "main"),
    "X-Linked-Size": ("0", "-1", "1", "99999999999999", "x", "1e9"),
    "Content-Length": ("0", "1", "99999999", "-5", "x"),
    "Location": ("/", "//", "file:///etc/passwd", "http://127.0.0.1:1/x", "../../x", "ftp://x/y",
                 "http://[", "javascript:1", "/elsewhere"),
    "X-Error-Code": ("GatedRepo", "RepoNotFound", "RevisionNotFound", "EntryNotFound", "x" * 5000),
    "X-Error-Message": ("no\tway", "x" * 5000),
    "X-Xet-Hash": ("0" * 64, "../../x"),
    "Content-Encoding": ("gzip", "br", "identity", "zstd", "x"),
    "Content-Type": ("text/html", "application/x-tar", "x"),
    "Retry-After": ("0", "-1", "nan", "1e9x", "Wed, 21 Oct 2015 07:28:00 GMT"),
    "Link": ('<http://127.0.0.1:1/x>; rel="xet-auth"', '</y>; rel="next"', "<"),
    "Transfer-Encoding": ("chunked", "gzip"),
    "Content-Range": ("bytes 0-1/2", "x"),
}  # fmt: skip
BODIES = ("../../../../etc/passwd", "/etc/passwd", "version https://git-lfs.github.com/spec/v1\n",
          "<html></html>", "")  # fmt: skip
"""What a symlink of a git repository, a pointer of Git LFS or a page of a proxy looks like."""


def _make(rng: Random, seeds: Seeds) -> bytes:
    """A script for the server: odd headers and statuses, and the files' content as latin-1."""
    faults = []
    for _ in range(rng.randint(0, 3)):
        name = rng.choice(HEADERS)
        value = rng.choice(VALUES[name]) if rng.random() < 0.9 else rng.choice(WORDS[:90])
        faults.append({"when": rng.choice(("HEAD", "GET", "both", "first", "later")),
                       "file": rng.choice(("config", "model", "both")),
                       "header": name, "value": value})  # fmt: skip
    script: dict[str, Any] = {"faults": faults, "status": {}}
    if rng.random() < 0.3:
        where = f"{rng.choice(('HEAD', 'GET'))} {rng.choice(('config', 'model'))}"
        script["status"][where] = rng.choice((200, 204, 206, 301, 302, 307, 308, 400, 401, 403, 404,
                                              410, 416, 418, 451, 500, 999))  # fmt: skip
    config, model = seeds.config(), seeds.bytes["weights/model.safetensors"]
    body = tree(rng, config) if rng.random() < 0.3 else json.dumps(config).encode()
    if rng.random() < 0.15:
        body = rng.choice(BODIES).encode()
    if rng.random() < 0.3:
        model = damaged(rng, model)
    script["short"] = rng.choice((0, 0, 0, 0, 0, 1, 100))
    script["config"], script["model"] = body.decode("latin-1"), model.decode("latin-1")
    script["revision"] = rng.choice((COMMIT, "main", "main"))
    return json.dumps(script).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: dict[str, Any] = {}  # noqa: RUF012 - replaced for every input
    asked = 0

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        _Handler.asked += 1
        script = _Handler.script
        which = "config" if "config.json" in self.path else "model"
        content = script.get(which, "").encode("latin-1")
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT,
                   "Content-Length": str(len(content))}  # fmt: skip
        for fault in script["faults"]:
            ordinal = "first" if _Handler.asked <= 2 else "later"
            if fault["when"] in (self.command, "both", ordinal) and fault["file"] in (
                which,
                "both",
            ):
                headers[fault["header"]] = fault["value"]
        status = script["status"].get(f"{self.command} {which}", 200)
        if "Location" in headers and status == 200:
            status = 302 if _Handler.asked < 8 else 200
        self.send_response_only(status)
        for name, value in headers.items():
            line = f"{name}: {value}\r\n".encode("utf-8", "surrogatepass")
            self._headers_buffer.append(line)  # type: ignore[attr-defined]
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command == "GET":
            self.wfile.write(content[: len(content) - script["short"]])


_server: list[ThreadingHTTPServer] = []


def _begin(folder: Path) -> None:
    """Start the server and point the Hub client at it; runs in the worker."""
    from huggingface_hub import constants

    handler = type("Handler", (_Handler,), {"timeout": 2})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    _server.append(server)
    constants.HF_HUB_OFFLINE = False
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_TELEMETRY = True
    constants.HF_HUB_DISABLE_PROGRESS_BARS = True
    constants.HF_HUB_DOWNLOAD_TIMEOUT = 2
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        del os.environ[name]
    time.sleep = lambda seconds: None  # the client waits before it asks again


def _end() -> None:
    for server in _server:
        server.shutdown()
        server.server_close()
    _server.clear()


def _read(path: Path, data: bytes) -> None:
    """Pull weights from that Hub and copy them, as ``regtool weights pull --to`` does."""
    from huggingface_hub import constants

    from regtool.plugins import discovery
    from regtool.weights import hub, resolve, stock

    _Handler.script, _Handler.asked = json.loads(data), 0
    cache = Path("out/hub")
    shutil.rmtree(cache, ignore_errors=True)
    constants.HF_HUB_CACHE = str(cache.absolute())
    endpoint = f"http://127.0.0.1:{_server[-1].server_address[1]}"
    patience = hub.Patience(1.0, ())
    revision = _Handler.script["revision"]
    files = hub.download("org/repo", revision, patience=patience, endpoint=endpoint,
                         cache_dir=cache.absolute())  # fmt: skip
    assert files.model.is_file() and files.config.is_file()
    found = resolve(discovery.load("voxelmorph"), f"hub:org/repo@{revision}", 2, offline=True,
                    cache_dir=cache.absolute())  # fmt: skip
    shutil.rmtree("out/copies", ignore_errors=True)
    stock.copy_to(found, Path("out/copies"))


TARGETS = (Target("Hub answers", _make, _read, "in.json", 0.8, (), None, _begin, _end),)
