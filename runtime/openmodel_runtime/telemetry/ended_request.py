"""What is known of a request once it has ended."""

from __future__ import annotations

from dataclasses import dataclass

from opentelemetry.context import Context

from openmodel_runtime.telemetry.content import Content

Parent = Context | None
"""Whoever called, as OpenTelemetry knows them; None when nobody is to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRequest:
    """Numbers and a status, and `content` where the model's owner wants it told.

    Times are of the steady clock, in nanoseconds.
    """

    operation: str
    """OpenTelemetry's word: text_completion or chat."""
    received: int
    queued: int | None = None
    """When the prompt was tokens; None when it never was."""
    admitted: int | None = None
    """When its first step began."""
    first_token: int | None = None
    ended: int
    input_tokens: int
    cached_tokens: int = 0
    """Of those, that the prefix cache had."""
    output_tokens: int
    exchange_seconds: float = 0.0
    """How long its rank exchanged rows with others while it was under way."""
    error: str | None
    """Name of the gRPC status, None for success."""
    parent: Parent = None
    content: Content | None = None

    @property
    def duration_seconds(self) -> float:
        """From coming to its end."""
        return (self.ended - self.received) / 1e9

    @property
    def queue_seconds(self) -> float | None:
        """From being tokens to the first step, or to the end of what never came to it; None of what was no tokens."""
        if self.queued is None:
            return None
        return max(0, (self.admitted or self.ended) - self.queued) / 1e9

    @property
    def first_token_seconds(self) -> float | None:
        """From coming to the first token; None when there was none."""
        return None if self.first_token is None else (self.first_token - self.received) / 1e9
