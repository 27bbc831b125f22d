"""The planner's bill beside what a rank says that it has.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from openmodel_operator.memory_plan import MemoryBill

_PARAMETERS = {
    "weights": "weight_bytes",
    "activations": "activation_bytes",
    "failover": "failover_bytes",
    "kv_cache": "kv_cache_bytes",
}
"""Of the bill's categories: the parameter of a runtime's ModelConfig."""


def actual_over_planned(bill: MemoryBill, facts: Mapping[str, str], *, memory_known: bool) -> dict[str, float]:
    """By category, what a rank has by what was planned for it, where both say something.

    Args:
        bill: what was planned.
        facts: parameters of a runtime's ModelConfig.
        memory_known: whether the planner knew how much memory there is; without, it could not plan the cache.
    """
    ratios = {}
    for category, parameter in _PARAMETERS.items():
        planned, actual = getattr(bill, category), int(facts.get(parameter, 0))
        if planned and actual and (memory_known or category not in ("kv_cache", "failover")):
            ratios[category] = actual / planned
    return ratios
