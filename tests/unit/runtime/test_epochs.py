"""Which epoch a group goes over to: whoever is lost, comes, drains or can not be seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groups import EXPERTS, LAYERS, Pods, covered, go_over, held, made, none_made, pod, running, wait_if_lacking
from openmodel_runtime.group.coverage import coverage
from openmodel_runtime.group.epochs import initial_slots, is_isolated, newest_epoch, next_epoch, settled
from openmodel_runtime.group.state import Epoch, RankState, Seen


def test_a_group_starts_when_all_are_there() -> None:
    pods = {number: pod(number) for number in range(2)}
    assert none_made(pods)
    pods[2] = pod(2)
    epoch = made(pods)
    assert (epoch.ids, epoch.broken, epoch.number % 8) == (["rank-0", "rank-1", "rank-2"], False, 0)
    assert [member.held for member in epoch.members] == [held(rank, 3) for rank in range(3)]
    after = go_over(pods, epoch)
    assert settled(after)
    assert none_made(after)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_pod_is_left_by_the_others_at_once(lost: int) -> None:
    pods = running()
    pods[lost] = replace(pods[lost], seen=Seen.CLOSED)
    epoch = made(pods)
    assert epoch.broken
    assert f"rank-{lost}" not in epoch.ids
    assert covered(epoch)
    assert epoch.number > (newest_epoch(pods) or epoch).number
    after = go_over(pods, epoch)
    assert none_made(after)


def test_a_lost_rank_of_a_live_pod_counts_as_well() -> None:
    pods = running()
    pods[1] = replace(pods[1], ranks=())
    assert (made(pods).ids, made(pods).broken) == (["rank-0", "rank-2"], True)


def test_two_lost_one_after_the_other_before_the_first_is_settled() -> None:
    pods = running()
    pods[0] = replace(pods[0], seen=Seen.CLOSED)
    pods = go_over(pods, made(pods), members=())
    assert none_made(pods)
    pods[1] = replace(pods[1], seen=Seen.CLOSED)
    last = made(pods)
    assert (last.ids, last.broken) == (["rank-2"], True)
    assert covered(last)


def test_a_newcomer_joins_without_breaking_anything_and_one_at_a_time() -> None:
    pods = running(2)
    pods[2] = pod(2, size=4, held_by=0)
    first = made(pods)
    assert (first.ids, first.broken, covered(first)) == (["rank-0", "rank-1", "rank-2"], False, True)
    pods = go_over(pods, first, members=())
    pods[3] = pod(3, size=4, held_by=1)
    assert none_made(pods)
    pods = go_over(pods, first)
    assert made(pods).ids == ["rank-0", "rank-1", "rank-2", "rank-3"]
    assert {len(slots) for slots in made(pods).layers()[0]} == {2}


def test_a_newcomer_that_dies_again_is_given_up() -> None:
    pods = running(2)
    pods[2] = pod(2, size=3)
    pods = go_over(pods, made(pods), members=())
    pods[2] = replace(pods[2], seen=Seen.CLOSED)
    assert (made(pods).ids, made(pods).broken) == (["rank-0", "rank-1"], True)


def test_a_pod_that_drains_gives_its_experts_and_then_leaves() -> None:
    pods = running()
    pods[1] = replace(pods[1], draining=True)
    epoch = made(pods)
    assert (epoch.ids, epoch.broken) == (["rank-0", "rank-1", "rank-2"], False)
    assert (epoch.members[1].held, covered(epoch)) == ({layer: () for layer in LAYERS}, True)
    pods = go_over(pods, epoch)
    assert none_made(pods)
    pods[1] = replace(pods[1], drained=True)
    last = made(pods)
    assert (last.ids, last.broken) == (["rank-0", "rank-2"], False)
    assert "rank-1" in last.before


def test_when_all_drain_none_leaves_the_others_without_its_experts() -> None:
    pods = {number: replace(state, draining=True) for number, state in running().items()}
    assert none_made(pods)
    pods[1] = replace(pods[1], drained=True)
    assert none_made(pods)


def test_the_greater_part_goes_on_without_those_that_are_silent() -> None:
    pods = running()
    pods[0] = replace(pods[0], seen=Seen.SILENT)
    assert not is_isolated(pods)
    assert made(pods).ids == ["rank-1", "rank-2"]
    pods[1] = replace(pods[1], seen=Seen.SILENT)
    assert is_isolated(pods)
    assert none_made(pods)


def test_a_part_does_not_become_the_greater_one_by_losing_pods_one_by_one() -> None:
    pods = running()
    pods[0] = replace(pods[0], seen=Seen.SILENT)
    pods = go_over(pods, made(pods), members=())
    pods[2] = replace(pods[2], seen=Seen.SILENT)
    assert is_isolated(pods)
    assert none_made(pods)


def test_of_two_halves_the_one_with_the_first_pod_goes_on() -> None:
    pods = running(4)
    first = {n: replace(s, seen=Seen.SILENT) if n > 1 else s for n, s in pods.items()}
    second = {n: replace(s, seen=Seen.SILENT) if n < 2 else s for n, s in pods.items()}
    assert (is_isolated(first), is_isolated(second)) == (False, True)
    assert made(first).ids == ["rank-0", "rank-1"]
    assert none_made(second)


def test_a_pod_that_is_known_to_have_ended_has_no_vote() -> None:
    pods = running()
    pods[0] = replace(pods[0], seen=Seen.CLOSED)
    pods[1] = replace(pods[1], seen=Seen.CLOSED)
    assert not is_isolated(pods)
    assert made(pods).ids == ["rank-2"]


def test_when_all_ranks_were_lost_a_group_starts_anew_with_a_higher_number() -> None:
    pods = running()
    before = newest_epoch(pods)
    assert before is not None
    pods = {number: replace(pod(number), ranks=(), epoch=before) for number in pods}
    assert none_made(pods)
    for number in pods:
        pods[number] = replace(pods[number], ranks=(RankState(f"new-{number}", 0, held(number, 3), EXPERTS),))
    assert made(pods).number > before.number


def test_copies_can_become_more_and_fewer() -> None:
    pods = running()
    more = made(pods, redundant=4)
    assert sum(map(len, more.layers()[0])) == EXPERTS + 4
    fewer = made(go_over(pods, more))
    assert sum(map(len, fewer.layers()[0])) == EXPERTS
    assert covered(fewer)


def test_newcomers_leave_each_other_their_part() -> None:
    pods = running(2)
    for number in (2, 3):
        pods[number] = replace(pod(number, size=4), ranks=())
    third, fourth = (initial_slots(pods, number, 1, 0) for number in (2, 3))
    assert third is not None
    assert fourth is not None
    assert len(third[0][0]) == len(fourth[0][0]) == 2
    assert not set(third[0][0]) & set(fourth[0][0])
    assert initial_slots({0: pod(0)}, 0, 1, 0) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["kill", "back", "drain", "enter", "skip"])), max_size=30),
    st.integers(2, EXPERTS),
)
def test_whatever_happens_one_pod_decides_and_nothing_is_missing(events: list[tuple[int, str]], room: int) -> None:
    """Also when news are entered late: every epoch holds all experts, numbers grow, and in the end all is settled."""
    pods = running(5, room)
    lives = 0
    newest = 0
    for number, event in events:
        state = pods[number]
        if event == "kill":
            pods[number] = replace(state, seen=Seen.CLOSED)
        elif event == "back" and state.seen is Seen.CLOSED:
            lives += 1
            rank = RankState(f"life-{lives}", 0, held(number, 5), room)
            pods[number] = replace(pod(number, size=5), ranks=(rank,))
        elif event == "drain" and state.seen is Seen.LIVE:
            pods[number] = replace(state, draining=True)
        elif event == "enter" and (epoch := newest_epoch(pods)) is not None:
            pods = go_over(pods, epoch)
        pods = wait_if_lacking(pods)
        if (epoch := _next(pods)) is not None:
            assert covered(epoch)
            assert all(len(slots) <= room for member in epoch.members for slots in member.held.values())
            assert epoch.number > newest
            newest = epoch.number
            pods = go_over(pods, epoch, members=())
    for _ in range(8):
        if (epoch := newest_epoch(pods)) is not None:
            pods = go_over(pods, epoch)
        if (epoch := _next(pods)) is not None:
            pods = go_over(pods, epoch)
    live = [state for state in pods.values() if state.seen is Seen.LIVE]
    whole = sum(len(state.ranks) for state in live) >= 5
    assert settled(pods) or not live or not whole or coverage(pods).missing
    assert none_made(pods)


def _next(pods: Pods) -> Epoch | None:
    epochs = [epoch for number in pods if (epoch := next_epoch(pods, number, 0)) is not None]
    live = [pods[number] for number in pods if pods[number].seen is Seen.LIVE]
    assert len(epochs) <= 1 or not live
    return epochs[0] if epochs else None
