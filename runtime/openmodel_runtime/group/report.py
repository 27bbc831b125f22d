"""What a pod says of its group: to the operator, and in metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openmodel_runtime.group.coverage import Coverage


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLoad:
    """How a layer's experts are loaded; 1 is even."""

    imbalance: float
    """The busiest rank's load by the mean."""
    hottest: float
    """The load of the expert that has most to do by the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReport:
    """What the ranks of a pod have to do."""

    ranks: int
    """That take requests."""
    running: int
    """Completions that are admitted, of all of them."""
    waiting: int
    """Completions that are not."""
    waiting_tokens: int
    """Known tokens of those."""
    most_waiting_tokens: int
    """Of the rank that has most of them."""
    kv_cache_used: float
    """Of the rank whose cache is fullest: what admitted sequences hold, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """One group, as one of its pods sees it."""

    coverage: Coverage
    wanted_ranks: int
    """That the group should have."""
    epoch: int
    """The newest; 0 before the first."""
    imbalance: float
    """Over all layers: how much more the busiest ranks have to do than the mean; 0 when too little was done to say."""
    layers: Mapping[int, LayerLoad]
    """Of each routed layer, when enough was done to say."""
    last_rebalance: float
    """When experts were moved last for an even load, in Unix seconds; 0 for never."""
