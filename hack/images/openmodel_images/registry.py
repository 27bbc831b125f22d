"""A registry, as the OCI distribution specification describes it: blobs and manifests over HTTP.

Knows the protocol: HEAD, mount, upload in pieces, PUT. Does not know what a layer holds, and knows
no authentication: it is for registries on the same machine or on a trusted network.
"""

import hashlib
import http.client
import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode, urljoin, urlsplit

from openmodel_images.errors import BuildError

# One request's body. Every registry takes pieces of this size, and memory stays small however
# large the blob is.
PIECE_BYTES = 32 << 20
TIMEOUT_SECONDS = 300

_HTTPS: type[http.client.HTTPConnection] = http.client.HTTPSConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What a manifest says about a blob."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    headers: Mapping[str, str]
    text: str

    def location(self) -> str:
        location = self.headers.get("location")
        if not location:
            raise BuildError("the registry's answer has no Location header")
        return location


class Registry:
    """One registry, by its address (`host:port`)."""

    def __init__(self, address: str, *, plain_http: bool) -> None:
        self.address = address
        self._base = f"{'http' if plain_http else 'https'}://{address}"

    def check(self) -> None:
        """Fail with a clear message when nothing that is a registry answers."""
        answer = self.request("GET", "/v2/")
        if answer.status == http.client.UNAUTHORIZED:
            raise BuildError(f"the registry {self.address} asks for a login, which is not supported")
        _expect(answer, "the registry's version check", http.client.OK)

    def has_blob(self, repository: str, digest: str) -> bool:
        return self._has(f"/v2/{repository}/blobs/{digest}")

    def mount_blob(self, repository: str, digest: str, origin: str) -> bool:
        """Share a blob that another repository of the same registry has; no bytes travel."""
        query = urlencode({"mount": digest, "from": origin})
        answer = self.request("POST", f"/v2/{repository}/blobs/uploads/?{query}")
        if answer.status == http.client.CREATED:
            return True
        if answer.status == http.client.ACCEPTED:  # It opened an ordinary upload instead.
            self.request("DELETE", answer.location())
        return False

    def upload(self, repository: str) -> "BlobUpload":
        return BlobUpload(self, repository)

    def put_blob(self, repository: str, content: bytes) -> Blob:
        """A small blob that is at hand as a whole."""
        digest = digest_of(content)
        if self.has_blob(repository, digest):
            return Blob(digest=digest, size=len(content))
        with self.upload(repository) as upload:
            upload.write(content)
            return upload.commit()

    def put_manifest(self, repository: str, tag: str, content: bytes, media_type: str) -> str:
        """Store a manifest under its tag; the digest is the image's name from then on."""
        # Always, though it may be there: a tag that people write may point to older content.
        path = f"/v2/{repository}/manifests/{tag}"
        answer = self.request("PUT", path, content, {"Content-Type": media_type})
        _expect(answer, f"storing the manifest of {repository}", http.client.CREATED)
        return digest_of(content)

    def request(self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
        """One request on its own connection. `url` is a path or what a Location header said."""
        target = urlsplit(urljoin(self._base, url))
        kind = http.client.HTTPConnection if target.scheme == "http" else _HTTPS
        connection = kind(target.netloc, timeout=TIMEOUT_SECONDS)
        path = target.path + (f"?{target.query}" if target.query else "")
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return Response(
                status=answer.status,
                headers={name.lower(): value for name, value in answer.getheaders()},
                text=answer.read().decode(errors="replace"),
            )
        except OSError as error:
            raise BuildError(f"the registry {self.address} does not answer: {error}") from error
        finally:
            connection.close()

    def _has(self, path: str) -> bool:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json, */*"}
        status = self.request("HEAD", path, headers=accept).status
        # A registry that keeps its blobs in an object store answers with a redirect.
        return status in (http.client.OK, http.client.TEMPORARY_REDIRECT)


class BlobUpload:
    """A blob on its way: written piece by piece and hashed meanwhile, named when it is complete.

    So a layer of several gigabytes needs neither a file nor a digest beforehand.
    """

    def __init__(self, registry: Registry, repository: str) -> None:
        self._registry = registry
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._sent = 0
        answer = registry.request("POST", f"/v2/{repository}/blobs/uploads/")
        _expect(answer, f"opening an upload to {repository}", http.client.ACCEPTED)
        self._location: str | None = answer.location()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._location is not None:  # Not committed: leave no half blob in the registry.
            with suppress(BuildError):  # The first failure is the one to be told.
                self._registry.request("DELETE", self._location)

    def write(self, data: bytes, /) -> int:
        self._hash.update(data)
        self._pending += data
        while len(self._pending) >= PIECE_BYTES:
            self._send(bytes(self._pending[:PIECE_BYTES]))
            del self._pending[:PIECE_BYTES]
        return len(data)

    def commit(self) -> Blob:
        """Close the blob under its digest."""
        blob = Blob(digest=f"sha256:{self._hash.hexdigest()}", size=self._sent + len(self._pending))
        if self._pending:
            self._send(bytes(self._pending))
            self._pending.clear()
        location = self._open_location()
        separator = "&" if urlsplit(location).query else "?"
        url = f"{location}{separator}digest={quote(blob.digest, safe=':')}"
        answer = self._registry.request("PUT", url, headers={"Content-Length": "0"})
        _expect(answer, "closing an upload", http.client.CREATED)
        self._location = None
        return blob

    def _send(self, piece: bytes) -> None:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{self._sent}-{self._sent + len(piece) - 1}",
        }
        answer = self._registry.request("PATCH", self._open_location(), piece, headers)
        _expect(answer, "sending a piece of a layer", http.client.ACCEPTED, http.client.NO_CONTENT)
        self._sent += len(piece)
        self._location = answer.location()

    def _open_location(self) -> str:
        if self._location is None:
            raise ValueError("this upload is closed")
        return self._location


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_loopback(address: str) -> bool:
    """Whether plain HTTP is safe without being asked for: the traffic stays on the machine."""
    host = urlsplit(f"//{address}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _expect(answer: Response, doing: str, *wanted: int) -> None:
    if answer.status not in wanted:
        detail = answer.text.strip()[:300]
        raise BuildError(f"{doing}: the registry answered {answer.status} {detail}".rstrip())
