"""To which rank a request goes, and whom else it wakes."""

from __future__ import annotations

from typing import cast

import pytest

from openmodel_runtime.errors import Unavailable
from openmodel_runtime.group.group_client import GroupClient
from openmodel_runtime.rank.client import TokenSink
from openmodel_runtime.request import SamplingParams

NOBODY = cast(TokenSink, None)


class Rank:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.under_way = 0
        self.bells: list[int] = []
        self.aborted: list[int] = []

    def submit(self, prompt: tuple[int, ...], sampling: SamplingParams, sink: TokenSink, bell: int) -> int:
        self.under_way += 1
        self.bells.append(bell)
        return self.under_way

    def ring(self, bell: int) -> None:
        self.bells.append(bell)

    def abort(self, request_id: int) -> None:
        self.aborted.append(request_id)


def test_the_rank_with_the_fewest_gets_it_and_all_are_woken_by_the_same_call() -> None:
    called: list[int] = []
    client, first, second = GroupClient(called.append), Rank(), Rank()
    client.add(first)
    client.add(second)
    for _ in range(3):
        client.submit((1,), SamplingParams(), NOBODY)
    assert (first.under_way, second.under_way) == (2, 1)
    assert first.bells == second.bells == [0, 1, 2, 3]
    assert called == [1, 2, 3]


def test_a_call_of_another_pod_is_passed_on_once_and_counted_on_from() -> None:
    client, rank = GroupClient(lambda bell: None), Rank()
    client.add(rank)
    for bell in (7, 7, 3):
        client.hear(bell)
    client.submit((1,), SamplingParams(), NOBODY)
    assert rank.bells == [0, 7, 8]


def test_a_newcomer_hears_the_last_call() -> None:
    """Or the group would never rest."""
    client, rank = GroupClient(lambda bell: None), Rank()
    client.hear(5)
    client.add(rank)
    assert rank.bells == [5]


def test_a_rank_that_pauses_still_hears_of_its_requests() -> None:
    client, rank = GroupClient(lambda bell: None), Rank()
    client.add(rank)
    request = client.submit((1,), SamplingParams(), NOBODY)
    client.pause(rank)
    assert not client.takes_requests
    with pytest.raises(Unavailable):
        client.submit((1,), SamplingParams(), NOBODY)
    client.abort(request)
    client.add(rank)
    client.abort(request)
    client.remove(rank)
    client.abort(request)
    assert rank.aborted == [1, 1]
