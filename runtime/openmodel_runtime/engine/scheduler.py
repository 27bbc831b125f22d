"""Who runs in the next step.

Running sequences go first, each with its next token or the next chunk of its prompt; waiting ones are admitted in the
order of arrival while the step's token budget, the number of sequences and the cache allow it. An admitted sequence
holds cache for the length it may reach, so it never has to be preempted.

Pure: integers and lists. Knows no tensors and no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Tokens

from openmodel_runtime.engine.sequence import Batch, ScheduledSequence, Sequence
from openmodel_runtime.request import GenerateRequest, TokenOutput


class Scheduler:
    """Continuous batching within three limits."""

    def __init__(
        self,
        *,
        max_model_len: int,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        kv_cache_tokens: int,
        eos_token_ids: frozenset[int],
    ) -> None:
        self._max_model_len = max_model_len
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._eos_token_ids = eos_token_ids
        self._free_tokens = kv_cache_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

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
        """Sequences not admitted yet."""
        return len(self._waiting)

    @property
    def free_tokens(self) -> int:
        """Tokens of cache that no admitted sequence holds."""
        return self._free_tokens

    def add(self, request: GenerateRequest) -> None:
        """Appends a request to the queue. Its prompt must be shorter than `max_model_len`."""
        length = min(len(request.prompt) + request.sampling.max_tokens, self._max_model_len)
        self._waiting.append(Sequence(request, length))

    def abort(self, request_id: int) -> bool:
        """Removes a request, waiting or running, and frees what it holds; False when it is not there."""
        for sequence in self._running:
            if sequence.request.request_id == request_id:
                self._finish(sequence)
                return True
        for sequence in self._waiting:
            if sequence.request.request_id == request_id:
                self._waiting.remove(sequence)
                return True
        return False

    def schedule(self) -> Batch:
        """The next step; an empty batch when there is nothing to run."""
        budget = self._max_num_batched_tokens
        scheduled: list[ScheduledSequence] = []
        for sequence in self._running:
            tokens = min(sequence.num_remaining, budget)
            if tokens:
                scheduled.append(ScheduledSequence(sequence, tokens))
                budget -= tokens
        while self._waiting and budget and len(self._running) < self._max_num_seqs:
            sequence = self._waiting[0]
            if sequence.max_length > self._free_tokens:
                break
            self._waiting.popleft()
            self._free_tokens -= sequence.max_length
            self._running.append(sequence)
            tokens = min(sequence.num_remaining, budget)
            scheduled.append(ScheduledSequence(sequence, tokens))
            budget -= tokens
        return Batch(tuple(scheduled))

    def update(self, batch: Batch, sampled: Tokens[int]) -> list[TokenOutput]:
        """Books a step that ran: `sampled` has one token for each scheduled sequence that samples, in order."""
        outputs = []
        tokens = iter(sampled)
        for scheduled in batch.scheduled:
            sequence, samples = scheduled.sequence, scheduled.samples
            sequence.num_computed += scheduled.num_tokens
            if not samples:
                continue
            token = next(tokens)
            sequence.tokens.append(token)
            reason = self._finish_reason(sequence, token)
            if reason:
                self._finish(sequence)
            outputs.append(
                TokenOutput(
                    request_id=sequence.request.request_id,
                    token=token,
                    finish_reason=reason,
                    cached_tokens=sequence.num_computed,
                )
            )
        return outputs

    def _finish_reason(self, sequence: Sequence, token: int) -> str:
        sampling = sequence.request.sampling
        if sequence.num_generated >= sampling.min_tokens:
            ends = token in self._eos_token_ids and not sampling.ignore_eos
            if ends or token in sampling.stop_token_ids:
                return "stop"
        return "length" if len(sequence.tokens) >= sequence.max_length else ""

    def _finish(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._free_tokens += sequence.max_length
