"""Who holds which experts: every expert somewhere, ranks as full as one another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmodel_runtime.parallel.placement import Placement, evolve, plan_placement


@st.composite
def groups(draw: st.DrawFn) -> tuple[int, int, int]:
    experts = draw(st.integers(1, 40))
    ranks = draw(st.integers(1, min(8, experts)))
    redundant = draw(st.integers(0, min(experts * (ranks - 1), 12)))
    return experts, ranks, redundant


@given(groups())
def test_every_expert_is_somewhere_and_no_rank_is_fuller_than_another(group: tuple[int, int, int]) -> None:
    experts, ranks, redundant = group
    slots = plan_placement([0], experts, ranks, redundant).layers[0]
    assert {expert for rank in slots for expert in rank} == set(range(experts))
    assert all(len(set(rank)) == len(rank) for rank in slots)
    assert sum(map(len, slots)) == experts + redundant
    assert max(map(len, slots)) - min(map(len, slots)) <= 1


@given(groups(), st.integers(0, 7))
def test_a_token_finds_every_expert_where_it_is(group: tuple[int, int, int], asking: int) -> None:
    experts, ranks, redundant = group
    placement = plan_placement([0], experts, ranks, redundant)
    holders, slots = placement.routes(0, experts, asking % ranks)
    own = placement.layers[0][asking % ranks]
    for expert in range(experts):
        assert placement.layers[0][holders[expert]][slots[expert]] == expert
        assert expert not in own or holders[expert] == asking % ranks


def test_neighbours_stay_together() -> None:
    assert plan_placement([3], 8, 3).layers == {3: ((0, 1), (2, 3, 4), (5, 6, 7))}


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ValueError, match="shared by 1 to 4 ranks, not by 5"):
        plan_placement([0], 4, 5)
    with pytest.raises(ValueError, match="9 copies"):
        plan_placement([0], 4, 3, 9)
    with pytest.raises(ValueError, match=r"nobody holds experts \[1\]"):
        Placement(1, {0: ((0,),)}).routes(0, 2, 0)


@given(st.integers(1, 40), st.integers(2, 8), st.data())
def test_those_who_are_left_take_over_what_is_lost_and_keep_the_rest(
    experts: int, ranks: int, data: st.DataObject
) -> None:
    ranks = min(ranks, experts)
    before = plan_placement([0], experts, ranks).layers[0]
    lost = data.draw(st.sets(st.integers(0, ranks - 1), max_size=ranks - 1))
    held = [slots for rank, slots in enumerate(before) if rank not in lost]
    after = evolve({0: held}, experts).layers[0]
    assert sorted(expert for slots in after for expert in slots) == list(range(experts))
    assert max(map(len, after)) - min(map(len, after)) <= 1
    read = sum(len(set(new) - set(old)) for old, new in zip(held, after, strict=True))
    missing = sum(len(before[rank]) for rank in lost)
    # Beside what nobody holds, only what evens out a rank that had one more than another.
    assert missing <= read <= missing + len(after)


@given(st.integers(2, 40), st.integers(1, 7))
def test_one_who_comes_takes_its_share_and_no_more_is_read(experts: int, ranks: int) -> None:
    ranks = min(ranks, experts - 1)
    before = plan_placement([0], experts, ranks).layers[0]
    after = evolve({0: [*before, ()]}, experts).layers[0]
    assert sorted(expert for slots in after for expert in slots) == list(range(experts))
    assert max(map(len, after)) - min(map(len, after)) <= 1
    for old, new in zip(before, after, strict=False):
        assert set(new) <= set(old)


@given(st.integers(1, 16).map(lambda each: 4 * each))
def test_of_those_who_come_one_after_another_nobody_makes_the_others_read(experts: int) -> None:
    """Each of two has loaded its part of a group of four; whichever comes first finds the others even without it."""
    before = plan_placement([0], experts, 2).layers[0]
    four = evolve({0: [*before, (), ()]}, experts).layers[0]
    for newcomer in four[2:]:
        three = evolve({0: [*before, newcomer]}, experts).layers[0]
        assert all(set(after) <= set(held) for held, after in zip(before, three[:2], strict=True))


def test_copies_are_kept_while_there_is_room() -> None:
    before = plan_placement([0], 4, 4, redundant=4).layers[0]
    after = evolve({0: before[:3]}, 4, redundant=4).layers[0]
    assert sum(map(len, after)) == 8
    assert all(len(set(slots)) == len(slots) for slots in after)
    assert evolve({0: [before[0]]}, 4, redundant=4).layers[0] == ((*before[0], *sorted({0, 1, 2, 3} - {*before[0]})),)
