"""What the router is told by its environment, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(ValueError):
    """An environment variable is wrong; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The router's settings."""

    max_held_calls: int = 2000
    """Calls that wait for models at once; more are refused with RESOURCE_EXHAUSTED."""
    max_held_calls_per_model: int = 1000
    """Of those, calls to one model."""
    hold_seconds: float = 600.0
    """How long a call without a deadline waits."""
    max_message_bytes: int = 16 << 20
    """Largest request that is read: what the runtime takes."""
    connection_seconds: float = 5.0
    """Age at which a client's connection is closed once its calls have ended: the next finds the model's pods."""
    drain_seconds: float = 300.0
    """How long calls may go on after SIGTERM."""
    settle_seconds: float = 30.0
    """How long new calls are still taken after SIGTERM, while whoever sends them here hears of it."""
    host: str = "[::]"
    """Address that all ports listen on."""
    control_port: int = 9090
    """gRPC: what calls wait for, asked by the operator."""
    health_port: int = 8081
    """Plaintext grpc.health.v1 for the kubelet."""
    metrics_port: int = 8080
    """Prometheus exposition."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Reads OPENMODEL_ROUTER_…."""
        return cls(
            max_held_calls=_number(env, "MAX_HELD_CALLS", cls.max_held_calls),
            max_held_calls_per_model=_number(env, "MAX_HELD_CALLS_PER_MODEL", cls.max_held_calls_per_model),
            hold_seconds=_number(env, "HOLD_SECONDS", int(cls.hold_seconds)),
            drain_seconds=_number(env, "DRAIN_SECONDS", int(cls.drain_seconds)),
            settle_seconds=_number(env, "SETTLE_SECONDS", int(cls.settle_seconds)),
        )


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    name = f"OPENMODEL_ROUTER_{name}"
    text = env.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name} must be a whole number from 1 on, not {text!r}")
    return int(text)
