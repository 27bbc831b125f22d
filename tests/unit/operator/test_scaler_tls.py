"""The external scaler's certificate, over real TLS: renewed under way, asked of clients, damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub, add_HealthServicer_to_server

from certificates import Authority, an_authority
from openmodel_operator.scaling.scaler_tls import MountedCertificates

NAME = "openmodel-scaler.openmodel-system.svc"


class Secret:
    """A Secret's files as the kubelet mounts them: links through one that names the present version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = 0
        folder.mkdir()
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(f"..data/{name}")

    def hold(self, authority: Authority) -> None:
        """Has a new certificate of this authority from now on."""
        self._version += 1
        version = authority.issue(self.folder / f"..{self._version}", NAME)
        (self.folder / "..new").symlink_to(version.name)
        (self.folder / "..new").rename(self.folder / "..data")

    @property
    def present(self) -> Path:
        return (self.folder / "..data").resolve()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return an_authority(tmp_path / "authority")


@pytest.fixture
def secret(tmp_path: Path, authority: Authority) -> Secret:
    secret = Secret(tmp_path / "secret")
    secret.hold(authority)
    return secret


@asynccontextmanager
async def served(secret: Secret, *, require_client: bool = False) -> AsyncIterator[int]:
    server = grpc.aio.server()
    add_HealthServicer_to_server(HealthServicer(), server)
    certificates = MountedCertificates(secret.folder, require_client=require_client)
    port = server.add_secure_port("127.0.0.1:0", certificates.credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def answers(port: int, authority: Authority, client: Path | None = None) -> bool:
    """Asks over a connection of its own."""
    files = {} if client is None else {"private_key": "tls.key", "certificate_chain": "tls.crt"}
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(),
        **{key: (client / name).read_bytes() for key, name in files.items() if client},
    )
    options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        answer = await HealthStub(channel).Check(HealthCheckRequest(), timeout=10)
        return bool(answer.status)


async def is_refused(port: int, authority: Authority, client: Path | None = None) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await answers(port, authority, client)
    return raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_counts_from_the_next_connection_on(
    authority: Authority, secret: Secret, tmp_path: Path
) -> None:
    another = an_authority(tmp_path / "another")
    async with served(secret) as port:
        assert await answers(port, authority)
        secret.hold(another)
        assert await answers(port, another)
        assert await is_refused(port, authority)


async def test_clients_without_a_certificate_of_the_authority_are_refused_where_one_is_asked_for(
    authority: Authority, secret: Secret, tmp_path: Path
) -> None:
    strange = an_authority(tmp_path / "another").issue(tmp_path / "strange", "keda")
    async with served(secret, require_client=True) as port:
        assert await is_refused(port, authority)
        assert await is_refused(port, authority, strange)
        assert await answers(port, authority, authority.issue(tmp_path / "keda", "keda"))


def test_what_does_not_fit_together_is_refused(authority: Authority, secret: Secret, tmp_path: Path) -> None:
    another = authority.issue(tmp_path / "keda", "keda")
    (secret.present / "tls.key").write_bytes((another / "tls.key").read_bytes())
    with pytest.raises(ValueError, match="no certificate with its key"):
        MountedCertificates(secret.folder, require_client=False)


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"?")]
)
async def test_a_damaged_secret_leaves_the_certificate_as_it_was(
    authority: Authority, secret: Secret, damage: Any
) -> None:
    async with served(secret) as port:
        damage(secret.present / "tls.key")
        assert await answers(port, authority)


def test_a_file_that_is_not_there_is_named(secret: Secret) -> None:
    (secret.present / "tls.key").unlink()
    with pytest.raises(OSError, match=r"tls\.key"):
        MountedCertificates(secret.folder, require_client=False)
