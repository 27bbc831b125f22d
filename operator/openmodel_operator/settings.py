"""What the operator is told by its environment, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The operator's settings."""

    runtime_image: str
    """Image of model pods."""
    namespace: str = "default"
    """Where the Lease is that one of several operators holds: the operator's own."""
    identity: str = "openmodel-operator"
    """Whose it is: the name of the operator's pod."""
    resync_seconds: float = 30.0
    """How often every OpenModel is looked at without an event; less often where that would be more than 50 a second."""
    cache_storage_class: str = ""
    """Of the claims that keep fetched checkpoints; "" is the cluster's default."""
    cache_access_mode: str = "ReadWriteOnce"
    """Of these claims: with one node at a time, or ReadWriteMany."""
    router_service: str = ""
    """The routers' Service, in the operator's namespace; "" where there are none."""
    scale_down_seconds: float = 300.0
    """So long fewer groups must have been enough before the autoscaler takes one away."""
    health_port: int = 8081
    """HTTP /healthz."""
    scaler_port: int = 9090
    """gRPC: KEDA's external scaler."""
    scaler_tls: Path | None = None
    """Folder of a mounted Secret with the external scaler's certificate; None: it is served in plaintext."""
    scaler_requires_client_certificate: bool = False
    """Whether who asks the external scaler must have a certificate that the Secret's `ca.crt` signed."""
    metrics_port: int = 8080
    """Prometheus exposition."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Reads OPENMODEL_RUNTIME_IMAGE and what else begins with OPENMODEL_."""
        try:
            return cls(
                runtime_image=env["OPENMODEL_RUNTIME_IMAGE"],
                namespace=env.get("OPENMODEL_NAMESPACE", cls.namespace),
                identity=env.get("OPENMODEL_IDENTITY", cls.identity),
                cache_storage_class=env.get("OPENMODEL_CACHE_STORAGE_CLASS", cls.cache_storage_class),
                cache_access_mode=env.get("OPENMODEL_CACHE_ACCESS_MODE", cls.cache_access_mode),
                scaler_tls=Path(env["OPENMODEL_SCALER_TLS"]) if env.get("OPENMODEL_SCALER_TLS") else None,
                scaler_requires_client_certificate=_flag(env, "OPENMODEL_SCALER_REQUIRES_CLIENT_CERTIFICATE"),
                router_service=env.get("OPENMODEL_ROUTER_SERVICE", cls.router_service),
                resync_seconds=_seconds(env, "OPENMODEL_RESYNC_SECONDS", cls.resync_seconds),
                scale_down_seconds=_seconds(env, "OPENMODEL_SCALE_DOWN_SECONDS", cls.scale_down_seconds),
            )
        except KeyError as error:
            raise SettingsError(f"environment variable {error.args[0]} is missing") from None


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    try:
        return float(env.get(name, default))
    except ValueError:
        raise SettingsError(f"{name} must be a number of seconds") from None


def _flag(env: Mapping[str, str], name: str) -> bool:
    try:
        return {"true": True, "false": False}[env.get(name, "false")]
    except KeyError:
        raise SettingsError(f"{name} must be true or false") from None
