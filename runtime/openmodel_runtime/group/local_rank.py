"""A rank of this pod as its front sees it, and what the front counts of all."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import structs

from openmodel_runtime.group.report import GroupReport
from openmodel_runtime.group.state import Held
from openmodel_runtime.rank.client import RankClient
from openmodel_runtime.rank.messages import Loaded, StepDone


class RankMetrics(Protocol):
    """Whoever counts what a rank does."""

    def loaded(self, loaded: Loaded) -> None:
        """A rank has its model."""

    def step_done(self, step: StepDone) -> None:
        """A rank ran a step."""

    def rank_died(self) -> None:
        """A rank ended on its own."""

    def group_changed(self, report: GroupReport) -> None:
        """The group, or how its experts are loaded, is another."""

    def stood_still(self, seconds: float) -> None:
        """A rank that had requests changed its group; so long no token came."""


def idle_step(free_tokens: int) -> StepDone:
    """What the metrics are told while no step has run."""
    return StepDone(outputs=[], running=0, waiting=0, free_tokens=free_tokens)


@dataclass(eq=False)
class LocalRank:
    """A rank that has loaded."""

    client: RankClient
    loaded: Loaded
    held: Held
    place: int = 0
    """Which part of each matrix it has, where those are shared: the first takes the requests of all."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    epoch: int = 0
    """The one that it steps with, as far as it has said; 0 for none."""
    promised: dict[int, Held] = field(default_factory=dict)
    """What it will hold with an epoch that it was told of."""
    takes_requests: bool = False
    left: int = 0
    """The last epoch that it has left, with its requests, or not come to."""
    stepped_at: float | None = None
    """When it told of a step last, in seconds, while it has requests."""
    regrouped: bool = False
    """It changed its group since."""
    last: StepDone = field(default_factory=lambda: idle_step(0))


def together(ranks: list[Loaded], *, tensor: bool) -> Loaded:
    """What ranks of one pod have loaded; where they share matrices, all cache the same tokens."""
    tokens = [each.kv_cache_tokens for each in ranks]
    return structs.replace(
        ranks[0],
        weight_bytes=sum(each.weight_bytes for each in ranks),
        billed_bytes=sum(each.billed_bytes for each in ranks),
        kv_cache_tokens=min(tokens) if tensor else sum(tokens),
        load_seconds=max(each.load_seconds for each in ranks),
    )
