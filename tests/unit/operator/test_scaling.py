"""How many groups a model should have: the decision over time, from loads that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from factories import a_load
from openmodel_operator.scaling.decision import Decision, Demand, Memory, Tempo, called_for, decide, is_active
from openmodel_operator.scaling.load import together
from openmodel_operator.scaling.window import Window
from openmodel_operator.spec import AutoscalingSpec

SPEC = AutoscalingSpec(min_replicas=0, max_replicas=8, idle_seconds=60, first_token_seconds=2.0)
TEMPO = Tempo()
LOOK = 4.0


def a_demand(**fields: Any) -> Demand:
    load = together([a_load(**fields.pop("load", {}))])
    return Demand(**{"replicas": 1, "ready": 1, "settled": True, "load": load, "held": 0, "max_num_seqs": 8, **fields})


@dataclass
class Model:
    """A model whose groups come at once, looked at every four seconds."""

    demand: Demand
    spec: AutoscalingSpec = SPEC
    now: float = 1000.0
    memory: Memory = field(default_factory=Memory)
    counts: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    tempo: Tempo = TEMPO

    def look(self) -> Decision:
        decision, self.memory = decide(self.spec, self.demand, self.memory, self.now, self.tempo)
        self.now += LOOK
        self.counts.append(decision.replicas)
        self.reasons.append(decision.reason)
        count = decision.replicas
        self.demand = replace(self.demand, replicas=count, ready=count)
        return decision

    def run(self, seconds: float, load: Callable[[float, int], dict[str, Any]]) -> None:
        """Looks for a while; the load is of the time and of the groups."""
        until = self.now + seconds
        while self.now < until:
            count = self.demand.replicas
            loads = together([a_load(**load(self.now, count)) for _ in range(count)]) if count else None
            self.demand = replace(self.demand, load=loads)
            self.look()


@pytest.mark.parametrize(
    ("load", "count", "word"),
    [
        ({"waiting": 2, "waiting_tokens": 9 * 4096}, 2, "tokens of prompts wait"),
        ({"kv_cache_used": 0.9}, 2, "of the cache is held"),
        ({"kv_cache_used": 0.85}, 1, "of the cache is held"),
        ({"running": 8, "waiting": 8}, 3, "completions are under way"),
        ({"running": 1, "waiting": 1, "first_token_seconds": 60.0}, 2, "first tokens take 60.00 s"),
        ({"running": 1, "first_token_seconds": 60.0}, 1, "completions are under way"),
        ({"idle_seconds": 61.0, "under_way": 0}, 0, "no request for 60 s"),
        ({"idle_seconds": 61.0, "under_way": 1}, 1, "first tokens"),
        ({"idle_seconds": 59.0, "under_way": 0}, 1, ""),
    ],
)
def test_what_a_moment_calls_for(load: dict[str, Any], count: int, word: str) -> None:
    decision = called_for(SPEC, a_demand(load=load))
    assert decision.replicas == count
    assert word in decision.reason or word == "first tokens"


def test_a_call_wakes_a_model_at_once_and_nothing_else_does() -> None:
    model = Model(a_demand(replicas=0, ready=0))
    model.demand = replace(model.demand, load=None)
    assert model.look() == Decision(0, "nobody calls")
    assert not is_active(SPEC, model.demand)
    model.demand = replace(model.demand, held=3)
    assert is_active(SPEC, model.demand)
    assert model.look() == Decision(1, "3 calls wait for the model")
    # While it starts, that nobody calls any more does not end it: it would never get to be ready.
    model.demand = replace(model.demand, replicas=1, ready=0, held=0, settled=False)
    assert model.look().replicas == 1
    assert is_active(SPEC, model.demand)


def test_a_burst_is_met_within_the_steps_and_given_back_slowly() -> None:
    spec = replace(SPEC, max_replicas=16)
    model = Model(a_demand(), spec)
    model.run(120, lambda now, count: {"waiting": 200 // count, "running": 8})
    # Seen twice, then four more, then twice as many.
    assert [count for before, count in pairwise(model.counts) if count != before] == [5, 10, 16]
    assert model.counts[0] == 1
    quiet = len(model.counts)
    model.run(TEMPO.down - LOOK, lambda now, count: {"under_way": 1})
    assert set(model.counts[quiet:]) == {16}
    model.run(300, lambda now, count: {"under_way": 1})
    assert [count for before, count in pairwise(model.counts) if count < before] == [8, 4, 2, 1]


def test_a_short_window_down_does_not_keep_from_going_up() -> None:
    model = Model(a_demand(), tempo=Tempo(down=5.0))
    model.run(20, lambda now, count: {"waiting": 9, "waiting_tokens": 9000, "running": 4})
    assert model.counts[-1] == 2


def test_noise_around_a_target_changes_nothing_twice() -> None:
    model = Model(a_demand())
    model.run(3600, lambda now, count: {"running": 3, "kv_cache_used": (0.95 if now % 8 else 0.5) / count})
    changes = [after for before, after in pairwise(model.counts) if after != before]
    assert changes in ([], [2])


def test_who_begins_to_look_takes_nothing_away_before_the_slow_window_has_passed() -> None:
    model = Model(a_demand(replicas=4, ready=4))
    model.run(TEMPO.down - LOOK, lambda now, count: {"running": 1})
    assert set(model.counts) == {4}
    model.run(3 * LOOK, lambda now, count: {"running": 1})
    assert model.counts[-1] == 2


def test_nothing_is_taken_away_while_groups_start_or_do_not_answer() -> None:
    model = Model(a_demand(replicas=4, ready=4))
    model.demand = replace(model.demand, settled=False)
    model.run(2 * TEMPO.down, lambda now, count: {"running": 1})
    assert set(model.counts) == {4}
    silent = together([a_load(idle_seconds=1e6), None])
    assert called_for(SPEC, replace(a_demand(replicas=4, ready=4), load=silent)).replicas == 4


def test_uneven_experts_are_moved_before_a_group_is_added_but_not_waited_for_for_ever() -> None:
    model = Model(a_demand(imbalance=2.0))
    busy = {"waiting": 9, "waiting_tokens": 9000, "running": 4}
    model.run(TEMPO.rebalance - LOOK, lambda now, count: busy)
    assert set(model.counts) == {1}
    assert "experts are moved first" in model.reasons[-1]
    model.run(4 * LOOK, lambda now, count: busy)
    assert model.counts[-1] == 2


@pytest.mark.parametrize(("replicas", "count"), [(0, 2), (9, 4)])
def test_the_bounds_hold_whoever_wrote_the_count(replicas: int, count: int) -> None:
    model = Model(a_demand(replicas=replicas), replace(SPEC, min_replicas=2, max_replicas=4))
    assert model.look().replicas == count
    assert "allows 2 to 4" in model.reasons[-1]


def test_ranks_that_take_no_requests_do_not_count() -> None:
    load = together([a_load(ranks=0), a_load(waiting_tokens=10), None])
    assert load is not None
    assert (load.ranks, load.waiting_tokens, load.silent) == (1, 10, 1)
    assert together([None, a_load(ranks=0)]) is None


def test_what_never_settles_keeps_nothing_for_ever() -> None:
    """Four groups are asked for, and there is room for two."""
    model = Model(a_demand(replicas=4, ready=2, settled=False))

    def idle() -> Decision:
        decision, model.memory = decide(SPEC, model.demand, model.memory, model.now, TEMPO)
        model.now += LOOK
        return decision

    model.demand = replace(model.demand, load=together([a_load(idle_seconds=1e6)] * 2))
    decisions = [idle().replicas for _ in range(int(TEMPO.patience / LOOK) + 2)]
    assert set(decisions[:-2]) == {4}
    assert decisions[-1] == 0


def test_looks_that_come_late_count_and_after_a_silence_nothing_is_known() -> None:
    window = Window()
    for now, count in ((0.0, 1), (4.1, 9), (8.3, 9)):
        window = window.add(now, count, 300.0)
        assert window.least(4.0) == {0.0: 1, 4.1: 1, 8.3: 9}[now]
    assert window.covers(8.0)
    window = window.add(500.0, 1, 300.0)
    assert not window.covers(4.0)
    assert window.most(300.0) == 1


def test_a_long_window_is_short_in_memory() -> None:
    window, day = Window(), 86400.0
    for look in range(3 * 21600):
        window = window.add(look * 4.0, 7 if look == 50000 else 1, day)
    assert len(window.entries) < 100
    assert window.covers(day)
    assert window.most(day) == 7
