"""Experts exchanged between ranks so that they have equally much to do: never worse, near the best, little moved."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmodel_runtime.parallel.balance import imbalance, rank_loads, rebalanced
from openmodel_runtime.parallel.placement import Slots, plan_placement

Group = tuple[list[float], tuple[Slots, ...]]


@st.composite
def groups(draw: st.DrawFn) -> Group:
    load = draw(st.lists(st.floats(0, 1000), min_size=1, max_size=40))
    ranks = draw(st.integers(1, min(8, len(load))))
    redundant = draw(st.integers(0, min(len(load) * (ranks - 1), 12)))
    return load, plan_placement([0], len(load), ranks, redundant).layers[0]


def better(slots: tuple[Slots, ...], load: list[float]) -> tuple[Slots, ...]:
    return rebalanced({0: slots}, {0: load})[0]


@given(groups())
def test_every_expert_stays_somewhere_and_every_rank_as_full(group: Group) -> None:
    load, before = group
    after = better(before, load)
    assert list(map(len, after)) == list(map(len, before))
    assert all(len(set(rank)) == len(rank) for rank in after)
    assert {expert for rank in after for expert in rank} == set(range(len(load)))


@given(groups())
def test_the_busiest_rank_has_no_more_to_do_without_copies(group: Group) -> None:
    load, _ = group
    before = plan_placement([0], len(load), min(4, len(load))).layers[0]
    assert max(rank_loads(better(before, load), load)) <= max(rank_loads(before, load)) + 1e-6


@given(groups())
def test_what_is_balanced_is_left_alone_without_copies(group: Group) -> None:
    load, _ = group
    once = better(plan_placement([0], len(load), min(4, len(load))).layers[0], load)
    assert better(once, load) == once


@pytest.mark.parametrize(
    "load", [[9, 1, 1, 1, 1, 1], [5, 5, 4, 4, 3, 3], [8, 7, 6, 5, 4, 3], [1, 1, 1, 1, 1, 1], [0, 0, 10, 10, 10, 0]]
)
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_busiest_rank_is_near_the_best(load: list[float], ranks: int) -> None:
    size = len(load) // ranks
    best = min(
        max(sum(load[expert] for expert in order[rank * size : (rank + 1) * size]) for rank in range(ranks))
        for order in itertools.permutations(range(len(load)))
    )
    before = plan_placement([0], len(load), ranks).layers[0]
    assert max(rank_loads(better(before, load), load)) <= 1.1 * best


def test_a_few_exchanges_even_out_one_hot_rank() -> None:
    load = [100.0] * 8 + [10.0] * 24
    before = plan_placement([0], 32, 4).layers[0]
    after = better(before, load)
    assert imbalance({0: before}, {0: load}) == pytest.approx(800 / 260)
    assert imbalance({0: after}, {0: load}) == pytest.approx(1.0)
    moved = sum(len(set(new) - set(old)) for old, new in zip(before, after, strict=True))
    # Six of the eight hot ones leave, six come for them.
    assert moved == 12


def test_copies_go_where_most_is_to_do() -> None:
    load = [1.0, 1.0, 1.0, 12.0]
    before = plan_placement([0], 4, 4, redundant=4).layers[0]
    after = better(before, load)
    assert Counter(expert for rank in after for expert in rank)[3] == 4
    assert max(rank_loads(after, load)) < max(rank_loads(before, load))


def test_nobody_has_anything_to_do() -> None:
    before = plan_placement([0], 4, 2).layers[0]
    assert better(before, [0.0] * 4) == before
    assert imbalance({0: before}, {0: [0.0] * 4}) == 1.0
