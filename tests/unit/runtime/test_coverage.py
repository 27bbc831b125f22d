"""What a group has room for, what follows when it lacks some, and when experts move for an even load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from groups import EXPERTS, LAYERS, covered, go_over, made, newest_number, none_made, pod, running
from openmodel_runtime.group.coverage import Coverage, coverage
from openmodel_runtime.group.epochs import initial_slots, newest_epoch, next_epoch
from openmodel_runtime.group.state import RankState, Seen
from openmodel_runtime.parallel.balance import imbalance


def test_those_who_are_left_without_room_make_no_epoch_until_another_comes() -> None:
    pods = running(2, room=4)
    assert coverage(pods) == Coverage(ranks=2, experts=EXPERTS, smallest=2)
    pods[1] = replace(pods[1], seen=Seen.CLOSED)
    assert none_made(pods)
    assert coverage(pods).missing == 4
    waiting = replace(pods[0].ranks[0], epoch=0, left=newest_number(pods))
    pods[0] = replace(pods[0], ranks=(waiting,))
    slots = initial_slots(pods, 1, 1, 0)
    assert slots is not None
    pods[1] = replace(pod(1, room=4), ranks=(RankState("again", 0, slots[0], 4),))
    epoch = made(pods)
    assert (epoch.ids, epoch.broken, covered(epoch)) == (["rank-0", "again"], True, True)


def test_a_pod_that_was_silent_is_taken_back_by_those_who_waited_for_it() -> None:
    pods = running(2, room=4)
    pods[0] = replace(pods[0], ranks=(replace(pods[0].ranks[0], epoch=0, left=newest_number(pods)),))
    epoch = made(pods)
    assert (epoch.ids, epoch.broken) == (["rank-0", "rank-1"], True)
    assert none_made(go_over(pods, epoch, members=()))
    assert none_made(go_over(pods, epoch))


def test_a_pod_that_drains_keeps_what_the_others_have_no_room_for() -> None:
    pods = running(3, room=3)
    pods[2] = replace(pods[2], draining=True)
    assert none_made(pods)
    assert coverage(pods).missing == 0
    pods[2] = replace(pods[2], drained=True)
    assert coverage(pods).missing == 2


@pytest.mark.parametrize(("size", "room", "lost"), [(2, 4, 0), (2, 8, 1), (3, 4, 1), (3, 8, 2), (3, 3, 0)])
def test_what_a_group_survives_is_what_it_has_room_for(size: int, room: int, lost: int) -> None:
    found = coverage(running(size, room))
    assert (found.survives_process_loss, found.survives_pod_loss) == (lost, lost)


def test_two_ranks_of_a_pod_are_lost_together() -> None:
    pods = running(2, room=4)
    twice = (*pods[1].ranks, replace(pods[1].ranks[0], id="second"))
    found = coverage({**pods, 1: replace(pods[1], ranks=twice)})
    assert (found.survives_process_loss, found.survives_pod_loss) == (1, 0)


def test_experts_are_exchanged_for_an_even_load_when_it_is_time_and_worth_it() -> None:
    pods = running(2)
    even = dict.fromkeys(LAYERS, [100.0] * EXPERTS)
    hot = dict.fromkeys(LAYERS, [400.0, 400.0] + [10.0] * (EXPERTS - 2))
    assert none_made(pods)
    assert next_epoch(pods, 0, 0, even) is None
    assert next_epoch(pods, 1, 0, hot) is None
    epoch = next_epoch(pods, 0, 0, hot)
    assert epoch is not None
    assert (epoch.ids, epoch.broken, covered(epoch)) == (["rank-0", "rank-1"], False, True)
    assert imbalance(epoch.layers(), hot) < 1.1
    current = newest_epoch(pods)
    assert current is not None
    assert current.places() == epoch.places()
    assert current.places() != made({**pods, 1: replace(pods[1], draining=True)}).places()
    after = go_over(pods, epoch)
    assert none_made(after)
    assert next_epoch(after, 0, 0, hot) is None


def test_the_greater_part_of_a_group_begins_after_a_while_if_it_has_room_for_all() -> None:
    pods = {number: pod(number) for number in (0, 2)}
    assert none_made(pods)
    epoch = next_epoch(pods, 0, 0, waited=True)
    assert epoch is not None
    assert (epoch.ids, covered(epoch)) == (["rank-0", "rank-2"], True)
    assert next_epoch(pods, 2, 0, waited=True) is None
    later = go_over({**pods, 1: pod(1)}, epoch)
    assert made(later).ids == ["rank-0", "rank-1", "rank-2"]
    assert next_epoch({0: pod(0)}, 0, 0, waited=True) is None
    assert next_epoch({number: pod(number, room=3) for number in (0, 2)}, 0, 0, waited=True) is None
