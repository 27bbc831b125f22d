"""A request on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from openmodel_runtime.request import GenerateRequest


@dataclass(slots=True)
class Sequence:
    """Tokens of a request so far, and how many of them are computed."""

    request: GenerateRequest
    max_length: int
    """Tokens of prompt and completion that it may reach."""
    tokens: list[int] = field(default_factory=list)
    num_computed: int = 0
    """Tokens whose keys and values are in the cache."""

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt)

    @property
    def num_remaining(self) -> int:
        """Tokens that are known and not computed: the rest of the prompt, or the last sampled token."""
        return len(self.tokens) - self.num_computed

    @property
    def num_generated(self) -> int:
        """Tokens of the completion."""
        return len(self.tokens) - len(self.request.prompt)


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """A sequence in a step, and how many of its tokens the step computes."""

    sequence: Sequence
    num_tokens: int

    @property
    def samples(self) -> bool:
        """True when the step reaches the sequence's last known token, so that its next one is wanted."""
        return self.num_tokens == self.sequence.num_remaining


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step computes."""

    scheduled: tuple[ScheduledSequence, ...]
