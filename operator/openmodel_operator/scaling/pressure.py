"""How much a model has to do by what it is to have to do at most. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from openmodel_operator.scaling.load import ModelLoad
from openmodel_operator.spec import AutoscalingSpec

# Of the sequences that the ranks take at once: beyond, calls begin to wait.
_FULL = 0.9
# A target that is met but for so much is met.
_TOLERANCE = 0.1
# What tells that there is too much to do, but not how much, calls for at most so many times the groups.
_MOST = 2.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """The target that is furthest exceeded, or least missed."""

    ratio: float
    """What there is by what is aimed at: 1 is right."""
    what: str

    def groups(self, ready: int) -> int:
        """Groups that would meet the target, when so many share the load now; at least 1."""
        if abs(self.ratio - 1) <= _TOLERANCE:
            return max(1, ready)
        return max(1, math.ceil(ready * self.ratio))


def pressure(spec: AutoscalingSpec, load: ModelLoad, max_num_seqs: int) -> Pressure:
    """Of all targets; `max_num_seqs` is what a rank takes at once."""
    waiting = load.waiting_tokens / load.ranks
    sequences = load.running + load.waiting
    found = [
        Pressure(
            min(waiting / spec.waiting_tokens_per_rank, _MOST),
            f"{waiting:.0f} tokens of prompts wait at each rank (target {spec.waiting_tokens_per_rank}; "
            f"{load.most_waiting_tokens} at the busiest)",
        ),
        Pressure(
            load.kv_cache_used / spec.kv_cache_utilization,
            f"{load.kv_cache_used:.0%} of the cache is held (target {spec.kv_cache_utilization:.0%})",
        ),
        Pressure(
            sequences / (load.ranks * max_num_seqs * _FULL),
            f"{sequences} completions are under way, and {load.ranks * max_num_seqs} can be at once",
        ),
    ]
    # What first tokens took is known late: when nobody waits any more, another group would change nothing.
    if spec.first_token_seconds is not None and load.first_token_seconds is not None and load.waiting:
        found.append(
            Pressure(
                min(load.first_token_seconds / spec.first_token_seconds, _MOST),
                f"first tokens take {load.first_token_seconds:.2f} s (target {spec.first_token_seconds:g} s)",
            )
        )
    return max(found, key=lambda pressure: pressure.ratio)
