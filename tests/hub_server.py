"""A hub for tests: the part of the Hugging Face Hub's public HTTP API that downloads use, over folders of this machine.

Counts what it is asked for, and fails as it is told.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

_INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(/revision/(?P<revision>[^/]+))?")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class HubDouble:
    """One repository, at one commit, under the name `main`."""

    repository: str
    folder: Path
    commit: str = "1" * 40
    token: str = ""
    """That callers need; "" for none."""
    gated: bool = False
    url: str = ""
    cut_after: int | None = None
    """Bytes of a file's data after which the connection is cut, once."""
    broken: int = 0
    """Status of the next answers to requests for data; 0 for none."""
    broken_file: str = ""
    """Of this file there is no data."""
    damaged: bool = False
    """Data comes with one bit turned."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of each file that were sent."""
    authorizations: set[str] = field(default_factory=set)

    def siblings(self) -> list[dict[str, object]]:
        return [self._sibling(path) for path in sorted(self.folder.iterdir())]

    def _sibling(self, path: Path) -> dict[str, object]:
        data = path.read_bytes()
        told: dict[str, object] = {"rfilename": path.name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}  # noqa: S324
        if path.suffix == ".safetensors":
            told["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return told


class _Handler(BaseHTTPRequestHandler):
    hub: HubDouble
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.hub, unquote(urlparse(self.path).path)
        self.hub.authorizations.add(self.headers.get("Authorization", ""))
        info, file = _INFO.fullmatch(path), _FILE.fullmatch(path)
        match = info or file
        if match is None or match["repo"] != hub.repository:
            return self._refuse(404, "RepoNotFound")
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._refuse(401, "GatedRepo" if hub.gated else "RepoNotFound")
        if match["revision"] not in (None, "main", hub.commit):
            return self._refuse(404, "RevisionNotFound")
        if info:
            return self._json({"id": hub.repository, "sha": hub.commit, "siblings": hub.siblings()})
        assert file is not None
        return self._file(hub.folder / file["path"], body=body)

    def _file(self, path: Path, *, body: bool) -> None:
        hub = self.hub
        if not path.is_file() or (body and path.name == hub.broken_file):
            return self._refuse(404, "EntryNotFound")
        if body and hub.broken:
            return self._refuse(hub.broken, "")
        data = path.read_bytes()
        etag = hashlib.sha256(data).hexdigest()
        if hub.damaged and path.suffix == ".safetensors":
            data = bytes([data[0]]) + data[1:-1] + bytes([data[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin, end = (int(asked[1]), int(asked[2] or len(data) - 1) + 1) if asked else (0, len(data))
        part = data[begin : min(end, len(data))]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", hub.commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(part) - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return None
        if hub.cut_after is not None and len(part) > hub.cut_after:
            part, hub.cut_after = part[: hub.cut_after], None
            self.close_connection = True
        hub.sent[path.name] = hub.sent.get(path.name, 0) + len(part)
        self.wfile.write(part)
        return None

    def _json(self, told: object) -> None:
        text = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serve_hub(hub: HubDouble, host: str = "127.0.0.1", address: str = "") -> Iterator[HubDouble]:
    """Serves it; `hub.url` says where, by the address at which others see the host."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer((host, 0), handler) as server:
        hub.url = f"http://{address or host}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
