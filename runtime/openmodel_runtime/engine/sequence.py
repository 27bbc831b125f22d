"""A request on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from openmodel_runtime.engine.block_pool import ContentName
from openmodel_runtime.engine.grammar import GrammarMatcher
from openmodel_runtime.errors import RequestError
from openmodel_runtime.request import GenerateRequest, TokenLogprob


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens of a request so far, how many of them are computed, and the blocks that hold their keys and values."""

    request: GenerateRequest
    max_length: int
    """Tokens of prompt and completion that it may reach."""
    arrival: int
    """Its place in the order of arrival."""
    matcher: GrammarMatcher | None = None
    """What its tokens must follow; None where any may come."""
    admitted: bool = False
    """It has been admitted before."""
    tokens: list[int] = field(default_factory=list)
    num_computed: int = 0
    """Tokens whose keys and values are in the cache for good: a step that ran has been booked."""
    cached_prompt_tokens: int = 0
    """Tokens of the prompt that the prefix cache had when the sequence was first admitted."""
    blocks: list[int] = field(default_factory=list)
    """Blocks of the cache in order; they may reach beyond what is computed."""
    names: list[ContentName] = field(default_factory=list)
    """Names of the full blocks of `tokens`, as far as they were needed."""
    num_named: int = 0
    """Blocks of `blocks` that the pool knows by name."""
    stop_token_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt)
        self.stop_token_ids = frozenset(self.request.sampling.stop_token_ids)

    @property
    def num_remaining(self) -> int:
        """Tokens that are known and not computed: the rest of the prompt, or the last sampled token."""
        return len(self.tokens) - self.num_computed

    @property
    def num_generated(self) -> int:
        """Tokens of the completion."""
        return len(self.tokens) - len(self.request.prompt)

    @property
    def completion(self) -> list[int]:
        """The tokens that were generated."""
        return self.tokens[len(self.request.prompt) :]


class SequenceFailed(Exception):
    """A step can not be computed because of one sequence, which has to go."""

    def __init__(self, sequence: Sequence, error: RequestError) -> None:
        super().__init__(str(error))
        self.sequence = sequence
        self.error = error


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
class SampledToken:
    """What the sampler chose for a sequence."""

    token: int
    logprob: float | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step computes. Running it again computes the same: nothing is booked before `Scheduler.update`."""

    scheduled: tuple[ScheduledSequence, ...]
    admitted: tuple[int, ...] = ()
    """Requests that are admitted for the first time."""

    @property
    def num_tokens(self) -> int:
        """Rows of the step."""
        return sum(item.num_tokens for item in self.scheduled)
