"""What is known of a request once it has ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRequest:
    """Numbers and a status: nothing of what was asked or answered."""

    operation: str
    """OpenTelemetry's word: text_completion or chat."""
    duration_seconds: float
    first_token_seconds: float | None
    """Since the request came; None when there was no token."""
    input_tokens: int
    output_tokens: int
    error: str | None
    """Name of the gRPC status, None for success."""
