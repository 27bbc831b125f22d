"""When a rank steps with its group, rests, and goes over to the next one."""

from __future__ import annotations

from typing import cast

import pytest

from openmodel_runtime.parallel.mailbox import GroupBroken
from openmodel_runtime.parallel.membership import Membership, NextGroup
from openmodel_runtime.parallel.step_group import OpenedStep, StepExchange, StepOpening


class Exchange:
    """Says what the others have told; remembers what it was told."""

    def __init__(self) -> None:
        self.others = OpenedStep(has_tokens=True, resting=False, next_epoch=0)
        self.told: list[StepOpening] = []
        self.broken = False

    def stop(self) -> None:
        self.broken = True

    def open(self, told: StepOpening) -> OpenedStep:
        if self.broken:
            raise GroupBroken("gone")
        self.told.append(told)
        return self.others


def group_of(exchange: Exchange | None, epoch: int = 1) -> Membership:
    return Membership(epoch, cast(StepExchange | None, exchange))


def next_group(epoch: int, exchange: Exchange, entered: list[int]) -> NextGroup:
    return NextGroup(epoch, cast(StepExchange, exchange), lambda: entered.append(epoch))


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


def test_a_group_rests_when_all_say_so_and_wakes_by_a_call(exchange: Exchange) -> None:
    group = group_of(exchange)
    assert group.resting
    group.ring(3)
    assert group.open(5)
    assert exchange.told[-1] == StepOpening(tokens=5, bell=3, awaited=0, next_epoch=0)
    exchange.others = OpenedStep(has_tokens=False, resting=True, next_epoch=0)
    assert not group.open(0)
    assert group.resting
    group.ring(3)
    assert group.resting
    group.wake(2)
    exchange.others = OpenedStep(has_tokens=False, resting=False, next_epoch=0)
    group.open(0)
    assert (group.resting, exchange.told[-1].bell) == (False, 3)


def test_what_is_awaited_is_told(exchange: Exchange) -> None:
    group = group_of(exchange)
    group.expect(2)
    group.expect(-1)
    group.open(0)
    assert exchange.told[-1].awaited == 1


def test_the_next_group_is_entered_when_all_are_ready(exchange: Exchange) -> None:
    group, after, entered = group_of(exchange), Exchange(), list[int]()
    group.prepare(2)
    assert group.open(1)
    assert (exchange.told[-1].awaited, exchange.told[-1].next_epoch) == (1, 0)
    group.offer(next_group(2, after, entered))
    assert group.open(1)
    assert exchange.told[-1].next_epoch == 2
    assert entered == []
    exchange.others = OpenedStep(has_tokens=True, resting=False, next_epoch=2)
    assert not group.open(1)
    assert (entered, group.epoch) == ([2], 2)
    assert group.open(1)
    assert (after.told[-1].awaited, after.told[-1].next_epoch) == (0, 0)


def test_a_group_that_broke_is_left_for_the_next_one(exchange: Exchange) -> None:
    group, after, entered = group_of(exchange), Exchange(), list[int]()
    exchange.broken = True
    assert not group.open(1)
    assert group.exchange is None
    assert group.resting
    assert not group.open(1)
    group.prepare(2)
    group.offer(next_group(2, after, entered))
    assert entered == [2]
    assert group.open(1)


def test_a_group_that_breaks_when_the_next_is_prepared_is_no_loss(exchange: Exchange) -> None:
    group, after, entered = group_of(exchange), Exchange(), list[int]()
    group.prepare(2)
    group.offer(next_group(2, after, entered))
    exchange.broken = True
    assert not group.open(1)
    assert group.open(1)
    assert entered == [2]


def test_when_a_member_is_lost_the_next_group_is_not_waited_for_either(exchange: Exchange) -> None:
    group, after, last, entered = group_of(exchange), Exchange(), Exchange(), list[int]()
    group.prepare(2)
    group.offer(next_group(2, after, entered))
    group.abandon()
    assert (exchange.broken, after.broken) == (True, True)
    assert not group.open(1)
    assert not group.open(1)
    assert group.exchange is None
    group.prepare(3)
    group.offer(next_group(3, last, entered))
    assert group.open(1)
    assert entered == [2, 3]


def test_only_the_newest_group_is_entered(exchange: Exchange) -> None:
    group, after, entered = group_of(None, 0), Exchange(), list[int]()
    group.prepare(2)
    group.prepare(3)
    group.offer(next_group(2, exchange, entered))
    assert entered == []
    group.offer(next_group(3, after, entered))
    assert (entered, group.epoch) == ([3], 3)
