"""How many calls wait, and who hears of it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from openmodel_router.holding import Full, Holding

A, B = ("ns", "a"), ("ns", "b")


def test_places_are_bounded_in_all_and_for_each_model() -> None:
    holding = Holding(3, 2)
    with ExitStack() as places:
        for model in (A, A, B):
            places.enter_context(holding.place(model))
        with pytest.raises(Full, match="3 calls wait for models already"):
            places.enter_context(holding.place(B))
    with ExitStack() as places:
        for _ in range(2):
            places.enter_context(holding.place(A))
        with pytest.raises(Full, match="2 calls wait for the model already"):
            places.enter_context(holding.place(A))
        places.enter_context(holding.place(B))
    assert not holding.held


async def test_a_listener_hears_all_first_and_then_what_changes() -> None:
    holding = Holding(9, 9)
    with holding.place(A), holding.listen() as listener:
        assert await listener.news() == {A: 1}
        with holding.place(A), holding.place(B):
            assert await listener.news() == {A: 2, B: 1}
        assert await listener.news() == {A: 1, B: 0}
    with holding.listen() as listener:
        assert await listener.news() == {}
