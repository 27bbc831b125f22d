"""The external scaler's certificate, from a mounted Secret of type kubernetes.io/tls.

A Secret that changes, as when a certificate is renewed, counts from the next connection on.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc

_log = logging.getLogger(__name__)


class MountedCertificates:
    """`tls.crt`, `tls.key` and, where clients must have a certificate that it signed, `ca.crt`."""

    def __init__(self, folder: Path, *, require_client: bool) -> None:
        """OSError when a file is missing, ValueError when they do not fit together."""
        self._folder = folder
        self._require_client = require_client
        self._served = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Of a server's port."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(*self._served),
            self._renewed,  # type: ignore[arg-type]  # None is what says that nothing changed
            self._require_client,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is to be served from now on, None when it is as before. Called in a thread of gRPC's."""
        try:
            found = self._read()
        except (OSError, ValueError) as error:
            _log.error("the external scaler keeps its certificate: %s", error)
            return None
        if found == self._served:
            return None
        self._served = found
        _log.info("the external scaler has another certificate")
        return _configuration(*found)

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        # The kubelet puts all files in place at once, by one link to their folder.
        folder = (self._folder / "tls.crt").resolve(strict=True).parent
        names = ("tls.crt", "tls.key", *(("ca.crt",) if self._require_client else ()))
        files = [(folder / name).read_bytes() for name in names]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
            if self._require_client:
                context.load_verify_locations(folder / "ca.crt")
        except ssl.SSLError as error:
            told = f"{self._folder} has no certificate with its key, or an authority that is none: {error}"
            raise ValueError(told) from None
        return files[0], files[1], files[2] if self._require_client else None


def _configuration(chain: bytes, key: bytes, clients: bytes | None) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(key, chain)], clients)
