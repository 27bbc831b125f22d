"""What a group says of itself: how many ranks it has, and whether they hold all experts.

Pure; `probe` asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """One group, as one of its pods sees it."""

    ranks: int
    """That have loaded and will stay."""
    wanted_ranks: int
    experts: int
    """Of each routed layer; 0 where none are shared."""
    missing_experts: int
    """Of those, how many no rank has memory for."""
    smallest_ranks: int
    """Ranks that the group needs at least."""
    survives_process_loss: int
    """Ranks that may be lost at once."""
    survives_pod_loss: int
    """Pods that may be lost at once."""
    imbalance: float
    """How much more the busiest ranks have to do than the mean: 1 is even; 0 when too little was done to say."""
    last_rebalance: float
    """When experts were moved last for an even load, in Unix seconds; 0 for never."""
