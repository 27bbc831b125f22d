"""A registry inside the test's process, and the import path of `hack/images`.

Knows the part of the distribution specification that a push uses, and refuses what a registry
refuses. Does not know the code under test.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

IMAGES = Path(__file__).resolve().parents[3] / "hack" / "images"
sys.path.insert(0, str(IMAGES))


@dataclass
class Store:
    """What the double holds, and what it was asked."""

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def sent(self) -> list[str]:
        return [line for line in self.requests if not line.startswith(("HEAD", "GET"))]


class Handler(BaseHTTPRequestHandler):
    """Answers one request from the store."""

    store: Store

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        self.store.requests.append(f"{self.command} {url.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path == "/v2/":
            return self.answer(200)
        repository, kind, rest = self.split(url.path)
        if kind == "manifests":
            return self.manifest(repository, rest, body)
        if self.command == "HEAD":
            return self.answer(200 if (repository, rest) in self.store.blobs else 404)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        return self.upload(repository, rest.removeprefix("uploads/"), query, body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

    def split(self, path: str) -> tuple[str, str, str]:
        for kind in ("manifests", "blobs"):
            before, found, after = path.partition(f"/{kind}/")
            if found:
                return before.removeprefix("/v2/"), kind, after
        raise AssertionError(path)

    def manifest(self, repository: str, reference: str, body: bytes) -> None:
        if self.command == "HEAD":
            return self.answer(200 if (repository, reference) in self.store.manifests else 404)
        document = json.loads(body)
        for part in (document["config"], *document["layers"]):
            if len(self.store.blobs.get((repository, part["digest"]), b"")) != part["size"]:
                return self.answer(400)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.store.manifests[repository, reference] = body
        self.store.manifests[repository, digest] = body
        self.store.types[digest] = self.headers["Content-Type"]
        return self.answer(201)

    def upload(self, repository: str, name: str, query: dict[str, str], body: bytes) -> None:
        store = self.store
        if self.command == "POST":
            origin = (query.get("from", ""), query.get("mount", ""))
            if origin in store.blobs:
                store.blobs[repository, origin[1]] = store.blobs[origin]
                return self.answer(201)
            name = str(len(store.requests))
            store.uploads[name] = bytearray()
            # An absolute address for one, a query to be kept for the other: both are allowed.
            host = self.headers["Host"]
            return self.answer(202, Location=f"http://{host}/v2/{repository}/blobs/uploads/{name}?state=0")
        if self.command == "DELETE":
            del store.uploads[name]
            return self.answer(204)
        if query.get("state") != str(len(store.uploads[name])):
            return self.answer(416)
        if self.command == "PATCH":
            first, last = map(int, self.headers["Content-Range"].split("-"))
            if first != len(store.uploads[name]) or last - first + 1 != len(body):
                return self.answer(416)
            store.uploads[name] += body
            size = len(store.uploads[name])
            return self.answer(202, Location=f"/v2/{repository}/blobs/uploads/{name}?state={size}")
        content = bytes(store.uploads.pop(name)) + body
        if query["digest"] != f"sha256:{hashlib.sha256(content).hexdigest()}":
            return self.answer(400)
        store.blobs[repository, query["digest"]] = content
        return self.answer(201)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving(store: Store) -> Iterator[str]:
    """The address of a registry that keeps everything in `store`."""
    handler = type("BoundHandler", (Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
