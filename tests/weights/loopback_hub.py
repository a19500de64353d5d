"""A Hub on 127.0.0.1 from the standard library: what the real client asks for, and its failures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_RESOLVE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")
_PREUPLOAD = re.compile(r"/api/models/([\w.-]+/[\w.-]+)/preupload/([^/]+)")
_COMMIT = re.compile(r"/api/models/([\w.-]+/[\w.-]+)/commit/([^/]+)")
_MODEL = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(/revision/([^/]+))?")
_BATCH = re.compile(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch")
_LFS = re.compile(r"/lfs/([0-9a-f]{64})")


@dataclass
class Faults:
    """What goes wrong, switched on by a test."""

    status: int | None = None  # every answer
    busy: int = 0  # the first so many answers are 503
    drop_etag: bool = False
    drop_commit: bool = False
    corrupt_byte: bool = False  # one flipped bit in the middle of a body, of the right length
    cut_body: bool = False  # the connection ends in the middle of a body
    gated: bool = False
    pause: float = 0.0  # seconds in the middle of a model's body


@dataclass
class Hub:
    """Repositories (commit -> files), branches, stored large files, and all requests so far."""

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    url: str = ""

    def add(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commit files to a branch and return the commit's 40 digits."""
        digest = hashlib.sha1(repr((repository, sorted(files.items()))).encode())
        commit = digest.hexdigest()
        self.repositories.setdefault(repository, {})[commit] = files
        self.branches[repository, branch] = commit
        return commit

    def commit_of(self, repository: str, revision: str) -> str | None:
        """The commit of a branch or of a full commit itself."""
        if revision in self.repositories.get(repository, {}):
            return revision
        return self.branches.get((repository, revision))

    def methods(self) -> list[str]:
        """The methods of all requests so far, in order."""
        return [method for method, _ in self.requests]

    def start(self) -> ThreadingHTTPServer:
        """Serve in a background thread at ``url``."""
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        faults = self.hub.faults
        self.hub.requests.append((self.command, path))
        if faults.busy > 0:
            faults.busy -= 1
            self._answer(503)
        elif faults.status is not None:
            self._answer(faults.status)
        elif self.command in {"HEAD", "GET"} and (match := _RESOLVE.fullmatch(path)):
            self._file(*match.groups())
        elif self.command == "GET" and (match := _MODEL.fullmatch(path)):
            self._model(match[1], match[3] or "main")
        elif self.command in {"POST", "PUT"}:
            self._write(path, body)
        else:
            self._answer(404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _file(self, repository: str, revision: str, name: str) -> None:
        hub, faults = self.hub, self.hub.faults
        if repository not in hub.repositories:
            return self._answer(404, code="RepoNotFound")
        if faults.gated:
            return self._answer(403, code="GatedRepo")
        commit = hub.commit_of(repository, revision)
        if commit is None:
            return self._answer(404, code="RevisionNotFound")
        content = hub.repositories[repository][commit].get(name)
        if content is None:
            return self._answer(404, code="EntryNotFound", extra={"X-Repo-Commit": commit})
        etag = hashlib.sha256(content).hexdigest()
        extra = {} if faults.drop_etag else {"ETag": f'"{etag}"'}
        if not faults.drop_commit:
            extra["X-Repo-Commit"] = commit
        return self._answer(200, content, extra=extra, faulty=name.endswith(".safetensors"))

    def _model(self, repository: str, revision: str) -> None:
        commit = self.hub.commit_of(repository, revision)
        if commit is None:
            return self._answer(404, code="RepoNotFound")
        return self._json({"id": repository, "sha": commit, "siblings": []})

    def _write(self, path: str, body: bytes) -> None:
        hub = self.hub
        if path == "/api/validate-yaml":
            return self._json({"warnings": [], "errors": []})
        if self.command == "PUT" and (match := _LFS.fullmatch(path)):
            hub.objects[match[1]] = body
            return self._answer(200)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in hub.tokens:
            return self._answer(401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            known = repository in hub.repositories
            hub.repositories.setdefault(repository, {})
            return self._json({"url": f"{hub.url}/{repository}"}, 409 if known else 200)
        if match := _BATCH.fullmatch(path):
            return self._batch(json.loads(body))
        if match := _PREUPLOAD.fullmatch(path):
            return self._preupload(json.loads(body))
        if match := _COMMIT.fullmatch(path):
            return self._commit(match[1], match[2], body)
        return self._answer(404)

    def _preupload(self, asked: dict[str, Any]) -> None:
        files = [
            {
                "path": entry["path"],
                "uploadMode": "lfs" if entry["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for entry in asked["files"]
        ]
        self._json({"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}}
            for entry in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repository: str, branch: str, body: bytes) -> None:
        before = self.hub.commit_of(repository, branch)
        files = dict(self.hub.repositories[repository].get(before or "", {}))
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        commit = self.hub.add(repository, files, branch)
        self._json({"commitUrl": f"{self.hub.url}/{repository}/commit/{commit}",
                    "commitOid": commit})  # fmt: skip

    def _json(self, data: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(data).encode(), kind="application/json")

    def _answer(
        self,
        status: int,
        content: bytes = b"",
        *,
        code: str | None = None,
        extra: dict[str, str] | None = None,
        kind: str = "application/octet-stream",
        faulty: bool = False,
    ) -> None:
        faults = self.hub.faults
        if faulty and faults.corrupt_byte:
            middle = len(content) - 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command == "HEAD":
            return  # a body here would desynchronise the kept connection
        half = len(content) // 2
        self.wfile.write(content[:half])
        if faulty and faults.cut_body:
            self.close_connection = True
            return
        if faulty and faults.pause:
            self.wfile.flush()
            time.sleep(faults.pause)
        self.wfile.write(content[half:])
