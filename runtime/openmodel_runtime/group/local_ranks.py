"""The ranks of this pod that have loaded: which of them take requests, and what they tell the metrics together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from msgspec import structs

from openmodel_runtime.group.group_client import GroupClient
from openmodel_runtime.group.local_rank import LocalRank, RankMetrics, idle_step
from openmodel_runtime.group.report import QueueReport
from openmodel_runtime.rank.messages import StepDone

_log = logging.getLogger(__name__)


class LocalRanks:
    """Those that live."""

    def __init__(
        self, call_others: Callable[[int], None], on_ready: Callable[[bool], None], metrics: RankMetrics
    ) -> None:
        """`call_others` calls the ranks of other pods; `on_ready` hears whether any rank takes requests."""
        self._members: list[LocalRank] = []
        self._on_ready = on_ready
        self._metrics = metrics
        self.client = GroupClient(call_others)
        self.entered = asyncio.Event()
        """Set once all of them have taken requests at the same time."""

    def __iter__(self) -> Iterator[LocalRank]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: LocalRank) -> None:
        """A rank has loaded."""
        member.last = idle_step(member.loaded.kv_cache_tokens)
        self._members.append(member)

    def remove(self, member: LocalRank) -> None:
        """A rank has gone."""
        self._members.remove(member)
        self.client.remove(member.client)
        self._tell_ready()
        self._tell_metrics(idle_step(0))

    def clear(self) -> None:
        """All have gone."""
        self._members.clear()

    def take_requests(self, member: LocalRank, takes: bool) -> None:
        """Whether a rank takes requests from now on, or its part in those of the first that shares its matrices."""
        if member.takes_requests == takes:
            return
        member.takes_requests = takes
        if takes:
            self.client.add(member.client)
        if not takes or member.place:
            self.client.pause(member.client)
        if all(each.takes_requests for each in self._members):
            self.entered.set()
        self._tell_ready()

    def stepped(self, member: LocalRank, step: StepDone) -> None:
        """A rank ran a step."""
        now = asyncio.get_running_loop().time()
        if step.outputs and member.regrouped:
            if member.stepped_at is not None:
                _log.info("epoch %d: no token came for %.2f s", member.epoch, now - member.stepped_at)
                self._metrics.stood_still(now - member.stepped_at)
            member.regrouped = False
        member.stepped_at = now if step.running else None
        member.last = step
        self._tell_metrics(step)

    def queue(self) -> QueueReport:
        """What they have to do."""
        leading = self._leading()
        return QueueReport(
            ranks=sum(member.takes_requests for member in leading),
            running=sum(member.last.running for member in leading),
            waiting=sum(member.last.waiting for member in leading),
            waiting_tokens=sum(member.last.waiting_tokens for member in leading),
            most_waiting_tokens=max((member.last.waiting_tokens for member in leading), default=0),
            kv_cache_used=max(
                (1 - member.last.free_tokens / member.loaded.kv_cache_tokens for member in leading), default=0.0
            ),
        )

    def _tell_ready(self) -> None:
        # A pod whose ranks follow those of another is ready as well.
        self._on_ready(any(each.takes_requests for each in self._members))

    def _leading(self) -> list[LocalRank]:
        """Those that have work of their own: the others follow, and have what the first has."""
        return [member for member in self._members if not member.place]

    def _tell_metrics(self, step: StepDone) -> None:
        leading = [member.last for member in self._leading()]
        self._metrics.step_done(
            structs.replace(
                step,
                running=sum(last.running for last in leading),
                waiting=sum(last.waiting for last in leading),
                waiting_tokens=sum(last.waiting_tokens for last in leading),
                free_tokens=sum(last.free_tokens for last in leading),
            )
        )
