"""Where a model's spans and metrics go beside Prometheus: `spec.telemetry`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

# Of OTLP over gRPC.
_OTLP_PORT = 4317


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySpec:
    """Where spans and metrics go beside Prometheus."""

    otlp_endpoint: str | None = None
    """OTLP over gRPC; None: nowhere."""
    sample_ratio: float = 1.0
    """Of calls whose callers leave it open, how many are traced."""
    capture_content: bool = False
    """Whether spans have what callers ask and are answered."""

    @property
    def otlp_address(self) -> str:
        """The endpoint with its port: gRPC would take another where there is none."""
        endpoint = urlsplit(self.otlp_endpoint or "")
        host = f"[{endpoint.hostname}]" if ":" in (endpoint.hostname or "") else endpoint.hostname
        return f"{endpoint.scheme}://{host}:{self.otlp_port}"

    @property
    def otlp_port(self) -> int:
        """At the endpoint."""
        return urlsplit(self.otlp_endpoint or "").port or _OTLP_PORT
