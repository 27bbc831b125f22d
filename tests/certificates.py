"""Certificates for tests, by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
_DAYS = ("-days", "2")


@dataclass(frozen=True)
class Authority:
    """One that signs what is asked for, in a folder."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """Its own."""
        return self.folder / "ca.crt"

    def issue(self, into: Path, name: str) -> Path:
        """Writes `tls.crt`, `tls.key` and `ca.crt`, as a Secret has them, for this host name, for both ends."""
        into.mkdir(parents=True, exist_ok=True)
        openssl(
            *("req", "-x509", "-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key"), *_KEY, *_DAYS),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature"),
            *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
            *("-keyout", str(into / "tls.key"), "-out", str(into / "tls.crt")),
        )
        (into / "ca.crt").write_bytes(self.certificate.read_bytes())
        return into


def an_authority(folder: Path) -> Authority:
    """A new one."""
    folder.mkdir(parents=True, exist_ok=True)
    openssl(
        *("req", "-x509", *_KEY, *_DAYS, "-subj", "/CN=openmodel-tests"),
        *("-addext", "keyUsage=critical,keyCertSign"),
        *("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")),
    )
    return Authority(folder)


def openssl(*arguments: str) -> None:
    """Runs it; AssertionError with its words when it fails."""
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    assert not done.returncode, done.stderr
