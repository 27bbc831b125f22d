"""The loop of a rank: schedule, run, update.

A step is fixed by `Scheduler.schedule` and booked by `Scheduler.update`; whatever stands between them may fail and be
run again (docs/decisions/0010). Knows no queue, no socket, no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import structs

from openmodel_runtime.engine.grammar import GrammarMatcher
from openmodel_runtime.engine.model_runner import ModelRunner
from openmodel_runtime.engine.scheduler import Scheduler
from openmodel_runtime.engine.sequence import Sequence, SequenceFailed
from openmodel_runtime.errors import OutOfMemory, RequestError
from openmodel_runtime.parallel.mailbox import GroupBroken
from openmodel_runtime.parallel.membership import Membership
from openmodel_runtime.request import GenerateRequest, RequestFailed, TokenOutput

SeedSource = Callable[[], int]
# Some hundred megabytes for a small model: what a burst of prompts takes.
_BLOCKS_AHEAD = 512


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step came to."""

    outputs: list[TokenOutput]
    failed: list[RequestFailed] = field(default_factory=list)
    admitted: tuple[int, ...] = ()
    """Requests that were admitted for the first time."""


class Engine:
    """Generates tokens for any number of requests at once. Not thread-safe: one thread owns it."""

    def __init__(
        self, scheduler: Scheduler, runner: ModelRunner, new_seed: SeedSource, group: Membership | None = None
    ) -> None:
        self._scheduler = scheduler
        self.group = group
        """The ranks that it steps with; None when it is alone."""
        self._runner = runner
        self._new_seed = new_seed
        self._first_cold_block = 0

    @property
    def scheduler(self) -> Scheduler:
        """For reading how much is waiting and running."""
        return self._scheduler

    @property
    def idle(self) -> bool:
        """True when there is nothing to do before something comes."""
        if self.group is None:
            return self._scheduler.idle
        return self.group.resting if self._scheduler.idle else self.group.exchange is None

    def submit(self, request: GenerateRequest, matcher: GrammarMatcher | None = None) -> None:
        """Queues a request, with the matcher of its grammar if it has one.

        One that samples without a seed gets one, so that it can be put off and computed anew.
        """
        if request.sampling.seed is None:
            sampling = structs.replace(request.sampling, seed=self._new_seed())
            request = structs.replace(request, sampling=sampling)
        self._scheduler.add(request, matcher)

    def abort(self, request_id: int) -> None:
        """Ends a request and frees its cache; no more tokens of it come."""
        self._scheduler.abort(request_id)

    def warm_cache(self) -> bool:
        """While nothing runs: makes the memory of one more unused block ready; False when enough of them are.

        The system hands memory out when it is first written, which can take longer than to compute what is written.
        Not while requests wait for a group: whoever prepares it wants the processors.
        """
        if not self._scheduler.idle:
            return False
        unused = self._scheduler.unused_blocks
        block = max(self._first_cold_block, unused.start)
        if block >= min(unused.stop, unused.start + _BLOCKS_AHEAD):
            return False
        self._runner.touch(block)
        self._first_cold_block = block + 1
        return True

    def step(self) -> StepOutcome:
        """Runs one step; the tokens that it made, and the request that was given up so that others go on."""
        if self.idle:
            # A group that rests is not woken by a step of one rank: the others would not come.
            return StepOutcome([])
        batch = self._scheduler.schedule()
        if not (batch.scheduled if self.group is None else self.group.open(batch.num_tokens)):
            return StepOutcome([])
        try:
            sampled = self._runner.run(batch, None if self.group is None else self.group.exchange)
        except OutOfMemory as error:
            if self.group is not None:
                # The others wait for what this rank owes them in this step; it can not pay and must not hold them up.
                raise
            last = max((item.sequence for item in batch.scheduled), key=lambda sequence: sequence.arrival)
            return self._give_up(last, error)
        except SequenceFailed as failure:
            return self._give_up(failure.sequence, failure.error)
        except GroupBroken as error:
            assert self.group is not None
            self.group.leave(error)
            return StepOutcome([])
        return StepOutcome(self._scheduler.update(batch, sampled), admitted=batch.admitted)

    def _give_up(self, sequence: Sequence, error: RequestError) -> StepOutcome:
        """What is left of a step that one sequence made impossible: the others are scheduled anew."""
        request_id = sequence.request.request_id
        self.abort(request_id)
        return StepOutcome([], [RequestFailed.of(request_id, error)])
