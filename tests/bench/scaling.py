"""The autoscaler over load traces that are made up, beside the rule of an HPA over the same.

Both see the same simulated model. Waiting is seconds from a call to its first token, waste what of the groups' places
nobody used. The rule is an HPA's by its documentation, with its defaults and with completions under way as its metric;
it has no zero.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any

from bench.measure.scaled_model import KV_OF_SLOTS, PROMPT, SLOTS, Outcome, Policy, Rate, ScaledModel, simulate
from bench.report import plot_lines, write_result
from openmodel_operator.scaling.decision import Demand, Memory, Tempo, decide
from openmodel_operator.scaling.load import ModelLoad
from openmodel_operator.spec import AutoscalingSpec

MOST = 16
LOOK_SECONDS = 4
HOUR = 3600


def _bursts(now: int) -> float:
    return 20.0 if now % 1500 > 1440 else 0.5


def _daily(now: int) -> float:
    return 10.0 * (1 - math.cos(2 * math.pi * now / (24 * HOUR))) / 2


def _herd(now: int) -> float:
    return 400.0 if now % 1800 == 900 else 0.02


def _leak(now: int) -> float:
    return 0.2 + 20.0 * now / (3 * HOUR)


def _noise(now: int) -> float:
    return 3.4 if (now // 7) % 2 else 4.2


def _quiet(now: int) -> float:
    return 1.0 if now % 1200 == 600 else 0.0


TRACES: Mapping[str, tuple[Rate, int]] = {
    "bursts": (_bursts, 2 * HOUR),
    "daily wave": (_daily, 24 * HOUR),
    "thundering herd": (_herd, 2 * HOUR),
    "slow leak": (_leak, 3 * HOUR),
    "noise at one group's limit": (_noise, 2 * HOUR),
    "three calls an hour": (_quiet, 8 * HOUR),
}


class Ours:
    """The operator's decision, as it is."""

    def __init__(self) -> None:
        self._spec = AutoscalingSpec(min_replicas=0, max_replicas=MOST, first_token_seconds=2.0)
        self._memory = Memory()

    def groups(self, now: int, model: ScaledModel) -> int:
        """Every few seconds; a call that waits for a model at zero is told at once."""
        ready = model.ready(now)
        if now % LOOK_SECONDS and (ready or not model.queue):
            return model.wanted
        demand = Demand(
            replicas=model.wanted,
            ready=len(ready),
            settled=len(ready) == len(model.groups),
            load=_load(now, model) if ready else None,
            held=0 if ready else len(model.queue),
            max_num_seqs=SLOTS,
        )
        decision, self._memory = decide(self._spec, demand, self._memory, float(now), Tempo())
        return decision.replicas


def _load(now: int, model: ScaledModel) -> ModelLoad:
    ready, waiting = model.ready(now), len(model.queue)
    recent = sorted(seconds for _, seconds in model.recent)
    # Those that wait are spread over the ranks that there are.
    return ModelLoad(
        ranks=len(ready),
        running=model.running(),
        waiting=waiting,
        waiting_tokens=waiting * PROMPT,
        most_waiting_tokens=waiting * PROMPT // len(ready),
        kv_cache_used=KV_OF_SLOTS * model.running() / (SLOTS * len(ready)),
        under_way=model.running() + waiting,
        idle_seconds=float(now - model.last_activity),
        first_token_seconds=recent[int(0.9 * len(recent))] if recent else None,
        silent=0,
    )


class HorizontalPodAutoscaler:
    """autoscaling/v2's rule with its defaults, on completions under way by groups; the target is 0.8 of the places."""

    def __init__(self) -> None:
        self._recommended: list[tuple[int, int]] = []

    def groups(self, now: int, model: ScaledModel) -> int:
        """Every 15 seconds."""
        if now % 15:
            return model.wanted
        ready, count = len(model.ready(now)), model.wanted
        under_way = model.running() + len(model.queue)
        ratio = under_way / max(1, ready) / (0.8 * SLOTS)
        wanted = count if abs(ratio - 1) <= 0.1 else math.ceil(ratio * ready)
        if wanted > count > ready:
            # Pods that are not ready count as idle when it goes up.
            wanted = max(count, math.ceil(under_way / count / (0.8 * SLOTS) * count))
        self._recommended = [(at, each) for at, each in self._recommended if at > now - 300] + [(now, wanted)]
        if wanted < count:
            wanted = max(each for _, each in self._recommended)
        return min(max(1, min(wanted, max(2 * count, count + 4))), MOST)


POLICIES: Mapping[str, Callable[[], Policy]] = {"openmodel": Ours, "hpa": HorizontalPodAutoscaler}


def main() -> None:
    """Simulates, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the trace of a day")
    arguments = parser.parse_args()
    rows, panels = [], {}
    for trace, (rate, seconds) in TRACES.items():
        if arguments.quick and seconds > 10 * HOUR:
            continue
        outcomes = {name: simulate(policy(), rate, seconds, 1, seed=7) for name, policy in POLICIES.items()}
        rows += [_row(trace, name, outcome) for name, outcome in outcomes.items()]
        panels[trace] = {name: outcome.curve for name, outcome in outcomes.items()}
    for row in rows:
        print(row)
    plot_lines("scaling", panels, "s", "groups", log=False)
    print(write_result("scaling", rows))


def _row(trace: str, policy: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "trace": trace,
        "policy": policy,
        "calls": len(outcome.first_tokens),
        "first_token_p50_s": round(outcome.percentile(0.5), 2),
        "first_token_p99_s": round(outcome.percentile(0.99), 2),
        "first_token_mean_s": round(sum(outcome.first_tokens) / len(outcome.first_tokens), 2),
        "group_hours": round(outcome.group_hours, 2),
        "used_share": round(outcome.used, 3),
        "changes": outcome.changes,
        "reversals": outcome.reversals,
    }


if __name__ == "__main__":
    main()
