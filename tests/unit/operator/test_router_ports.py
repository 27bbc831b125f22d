"""Which port of the routers is which model's."""

from __future__ import annotations

from openmodel_operator.router_ports import FIRST_PORT, LAST_PORT, RouterPorts

A, B, C = ("ns", "a"), ("ns", "b"), ("other", "a")


def test_a_port_is_kept_and_is_nobody_elses() -> None:
    subject = RouterPorts()
    ports = [subject.give(key) for key in (A, B, C, A)]
    assert ports == [FIRST_PORT, FIRST_PORT + 1, FIRST_PORT + 2, FIRST_PORT]


def test_what_slices_say_is_followed_but_not_twice_and_not_outside_the_range() -> None:
    subject = RouterPorts()
    subject.learn([(A, FIRST_PORT), (B, FIRST_PORT), (C, 8001)])
    assert subject.give(A) == FIRST_PORT
    assert subject.give(B) == FIRST_PORT + 1
    assert subject.give(C) == FIRST_PORT + 2


def test_a_port_that_was_given_back_is_used_again_last() -> None:
    subject = RouterPorts()
    subject.give(A)
    subject.forget(A)
    assert subject.give(B) == FIRST_PORT + 1


def test_when_all_are_taken_there_is_none() -> None:
    subject = RouterPorts()
    given = [subject.give(("ns", str(index))) for index in range(LAST_PORT - FIRST_PORT + 1)]
    assert None not in given
    assert subject.give(A) is None
    subject.forget(("ns", "7"))
    assert subject.give(A) == FIRST_PORT + 7
