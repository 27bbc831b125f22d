"""Who runs in the next step.

Sequences that generate go first, a token each; then prompts under way, chunk by chunk; then waiting ones are admitted
in the order of arrival, while the step's tokens, the number of sequences and the cache allow it. When the cache is
full, the sequence that arrived last gives its blocks back and waits again, at the place of its arrival; its tokens are
kept and computed anew, from whatever of them the prefix cache still has. The first to arrive is never put off, so that
everyone ends.

A step is chosen by `schedule` and booked by `update`. Between the two nothing counts as computed: a step that failed,
or whose group broke, is run again as it is, or given up with its sequences unharmed.

Pure: integers and lists. Knows no tensors and no clock.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, replace

from openmodel_runtime.engine.block_pool import BlockPool, content_name
from openmodel_runtime.engine.grammar import GrammarMatcher
from openmodel_runtime.engine.sequence import Batch, SampledToken, ScheduledSequence, Sequence
from openmodel_runtime.request import GenerateRequest, TokenOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """What a step and the cache may hold."""

    max_model_len: int
    """Tokens of a sequence."""
    max_num_seqs: int
    """Sequences that are admitted at once."""
    max_num_batched_tokens: int
    """Tokens of a step."""
    max_prompt_tokens: int
    """Of those, tokens of prompts: a long prompt then holds up what others generate by one such step at a time."""
    num_blocks: int
    """Blocks of the cache; one sequence of `max_model_len` must fit."""
    block_tokens: int
    """Tokens of a block."""
    prefix_caching: bool = True
    """Whether a prompt may take up blocks that another sequence computed."""


class Scheduler:
    """Continuous batching within the limits."""

    def __init__(self, limits: SchedulerLimits, eos_token_ids: frozenset[int]) -> None:
        self._limits = limits
        self._eos_token_ids = eos_token_ids
        self._pool = BlockPool(limits.num_blocks)
        self._arrivals = 0
        # Both in the order of arrival.
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self.preemptions = 0
        """Times that a sequence had to give its blocks back."""

    @property
    def idle(self) -> bool:
        """True when there is nothing to run."""
        return not self._waiting and not self._running

    @property
    def num_running(self) -> int:
        """Admitted sequences."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences not admitted yet, or put off."""
        return len(self._waiting)

    @property
    def waiting_tokens(self) -> int:
        """Known tokens of those not admitted."""
        return sum(len(sequence.tokens) for sequence in self._waiting)

    @property
    def free_tokens(self) -> int:
        """Tokens of cache that no admitted sequence holds."""
        return self._pool.num_free * self._limits.block_tokens

    @property
    def unused_blocks(self) -> range:
        """Blocks that no sequence has held yet, in the order in which they will be taken."""
        return range(self._pool.first_unused, self._limits.num_blocks)

    def add(self, request: GenerateRequest, matcher: GrammarMatcher | None = None) -> None:
        """Appends a request to the queue, with what its completion follows. `max_model_len` is more than its prompt."""
        length = min(len(request.prompt) + request.sampling.max_tokens, self._limits.max_model_len)
        self._waiting.append(Sequence(request, length, self._arrivals, matcher))
        self._arrivals += 1

    def abort(self, request_id: int) -> bool:
        """Removes a request, waiting or running, and frees what it holds; False when it is not there."""
        for group in (self._running, self._waiting):
            for sequence in group:
                if sequence.request.request_id == request_id:
                    group.remove(sequence)
                    self._free(sequence)
                    return True
        return False

    def restart(self, num_blocks: int) -> None:
        """The cache is lost: all begin anew, in the order of their arrival and with their tokens, in so many blocks."""
        for sequence in list(self._running):
            self._put_off(sequence)
        self._limits = replace(self._limits, num_blocks=num_blocks)
        self._pool = BlockPool(num_blocks)

    def schedule(self) -> Batch:
        """The next step; an empty batch when there is nothing to run."""
        scheduled: list[ScheduledSequence] = []
        budget = self._limits.max_num_batched_tokens
        self._continue((item for item in list(self._running) if item.num_remaining == 1), budget, scheduled)
        budget = min(budget - _rows(scheduled), self._limits.max_prompt_tokens)
        generating = len(scheduled)
        self._continue((item for item in list(self._running) if item.num_remaining > 1), budget, scheduled)
        newcomers = list(self._admit(budget - _rows(scheduled[generating:])))
        first = tuple(item.sequence.request.request_id for item in newcomers if not item.sequence.admitted)
        # A sequence that was put off after it was chosen holds nothing any more.
        return Batch(tuple(item for item in (*scheduled, *newcomers) if item.sequence.blocks), first)

    def update(self, batch: Batch, sampled: Iterable[SampledToken]) -> list[TokenOutput]:
        """Books a step that ran: `sampled` has one token for each scheduled sequence that samples, in order."""
        outputs = []
        tokens = iter(sampled)
        for scheduled in batch.scheduled:
            sequence, samples = scheduled.sequence, scheduled.samples
            sequence.admitted = True
            sequence.num_computed += scheduled.num_tokens
            self._name_full_blocks(sequence)
            if not samples:
                continue
            choice = next(tokens)
            sequence.tokens.append(choice.token)
            reason = self._finish_reason(sequence, choice.token)
            if reason:
                self._running.remove(sequence)
                self._free(sequence)
            outputs.append(
                TokenOutput(
                    request_id=sequence.request.request_id,
                    token=choice.token,
                    finish_reason=reason,
                    logprob=choice.logprob,
                    top_logprobs=choice.top_logprobs,
                    cached_prompt_tokens=sequence.cached_prompt_tokens,
                )
            )
        return outputs

    def _continue(self, running: Iterable[Sequence], budget: int, scheduled: list[ScheduledSequence]) -> None:
        for sequence in running:
            tokens = min(sequence.num_remaining, budget)
            # One that was put off for the sake of one before it is not running any more.
            if tokens and sequence.blocks and self._make_room(sequence, tokens):
                scheduled.append(ScheduledSequence(sequence, tokens))
                budget -= tokens

    def _admit(self, budget: int) -> Iterable[ScheduledSequence]:
        while self._waiting and budget and len(self._running) < self._limits.max_num_seqs:
            sequence = self._waiting[0]
            hits = self._cached_blocks(sequence)
            # It starts when all that is known of it fits: less would put it off again soon.
            wanted = self._blocks_for(len(sequence.tokens)) - len(hits)
            if wanted > self._pool.num_free - sum(self._pool.is_free(block) for block in hits):
                return
            del self._waiting[0]
            insort(self._running, sequence, key=lambda other: other.arrival)
            for block in hits:
                self._pool.hold(block)
            sequence.blocks.extend(hits)
            sequence.num_named = len(hits)
            sequence.num_computed = len(hits) * self._limits.block_tokens
            if not sequence.num_generated:
                sequence.cached_prompt_tokens = sequence.num_computed
            tokens = min(sequence.num_remaining, budget)
            self._extend(sequence, tokens)
            yield ScheduledSequence(sequence, tokens)
            budget -= tokens

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for its next tokens, at the cost of those that arrived after it; False when it gave way itself."""
        while self._blocks_for(sequence.num_computed + tokens) - len(sequence.blocks) > self._pool.num_free:
            last = self._running[-1]
            self._put_off(last)
            if last is sequence:
                return False
        self._extend(sequence, tokens)
        return True

    def _put_off(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._free(sequence)
        sequence.num_computed = sequence.num_named = 0
        insort(self._waiting, sequence, key=lambda other: other.arrival)
        self.preemptions += 1

    def _extend(self, sequence: Sequence, tokens: int) -> None:
        while len(sequence.blocks) < self._blocks_for(sequence.num_computed + tokens):
            sequence.blocks.append(self._pool.take())

    def _free(self, sequence: Sequence) -> None:
        # The end first: a beginning is what others may share, so it is used anew last.
        for block in reversed(sequence.blocks):
            self._pool.give_back(block)
        sequence.blocks.clear()

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._limits.block_tokens)

    def _cached_blocks(self, sequence: Sequence) -> list[int]:
        """Blocks that hold the sequence's beginning already; the last token is always left to compute."""
        hits: list[int] = []
        if not self._limits.prefix_caching:
            return hits
        for index in range((len(sequence.tokens) - 1) // self._limits.block_tokens):
            block = self._pool.find(self._name_of(sequence, index))
            if block is None:
                break
            hits.append(block)
        return hits

    def _name_full_blocks(self, sequence: Sequence) -> None:
        if not self._limits.prefix_caching:
            return
        full = sequence.num_computed // self._limits.block_tokens
        for index in range(sequence.num_named, full):
            self._pool.name(sequence.blocks[index], self._name_of(sequence, index))
        sequence.num_named = full

    def _name_of(self, sequence: Sequence, index: int) -> bytes:
        size = self._limits.block_tokens
        while len(sequence.names) <= index:
            at = len(sequence.names)
            parent = sequence.names[-1] if at else None
            sequence.names.append(content_name(parent, sequence.tokens[at * size : (at + 1) * size]))
        return sequence.names[index]

    def _finish_reason(self, sequence: Sequence, token: int) -> str:
        sampling = sequence.request.sampling
        if sequence.num_generated >= sampling.min_tokens:
            ends = token in self._eos_token_ids and not sampling.ignore_eos
            if ends or token in sequence.stop_token_ids:
                return "stop"
        return "length" if len(sequence.tokens) >= sequence.max_length else ""


def _rows(scheduled: Iterable[ScheduledSequence]) -> int:
    return sum(item.num_tokens for item in scheduled)
