"""What a model has to do, as its pods tell it. Pure; `probe` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLoad:
    """The requests of one pod."""

    ranks: int
    """That take requests."""
    running: int
    """Completions that are admitted."""
    waiting: int
    """Completions that are not."""
    waiting_tokens: int
    """Known tokens of those."""
    most_waiting_tokens: int
    """Of the rank that has most of them."""
    kv_cache_used: float
    """Of the rank whose cache is fullest, 0 to 1."""
    under_way: int
    """Requests that have not ended."""
    idle_seconds: float
    """Since the last one ended, or the pod began."""
    first_token_seconds: float | None
    """What nine of ten requests of the last minute stayed within; None without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """The requests of all pods that answered."""

    ranks: int
    running: int
    waiting: int
    waiting_tokens: int
    most_waiting_tokens: int
    """Of the busiest rank."""
    kv_cache_used: float
    """Mean over pods that take requests, of each the fullest rank."""
    under_way: int
    idle_seconds: float
    """Of the pod that was busy last."""
    first_token_seconds: float | None
    """Of the slowest pod."""
    silent: int
    """Pods that should have answered and did not."""


def together(loads: Sequence[PodLoad | None]) -> ModelLoad | None:
    """The load of pods, None for one that does not answer; None when no rank takes requests."""
    # A pod may only help others: it takes no requests, and knows nothing of them.
    said = [load for load in loads if load is not None and load.ranks]
    if not said:
        return None
    first = [load.first_token_seconds for load in said if load.first_token_seconds is not None]
    return ModelLoad(
        ranks=sum(load.ranks for load in said),
        running=sum(load.running for load in said),
        waiting=sum(load.waiting for load in said),
        waiting_tokens=sum(load.waiting_tokens for load in said),
        most_waiting_tokens=max(load.most_waiting_tokens for load in said),
        kv_cache_used=sum(load.kv_cache_used for load in said) / len(said),
        under_way=sum(load.under_way for load in said),
        idle_seconds=min(load.idle_seconds for load in said),
        first_token_seconds=max(first, default=None),
        silent=sum(load is None for load in loads),
    )
