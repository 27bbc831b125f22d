from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmodel_runtime.front.back_pressure import LEAST_SECONDS, MOST_SECONDS, Busy, Places


def refusal(places: Places, count: int, now: float) -> Busy:
    with pytest.raises(Busy) as caught:
        places.take(count, now)
    return caught.value


def with_pace(each_second: int, seconds: int, limit: int = 4) -> Places:
    """All places taken, after so many ends a second, up to now = `seconds`."""
    places = Places(limit)
    for number in range(each_second * seconds):
        places.take(1, number / each_second)
        places.give_back(1, (number + 1) / each_second)
    places.take(limit, seconds)
    return places


def test_a_request_takes_a_place_for_each_completion() -> None:
    places = Places(4)
    places.take(3, 0)
    refusal(places, 2, 0)
    places.take(1, 0)
    assert places.taken == 4
    places.give_back(3, 1)
    places.take(2, 1)
    assert places.taken == 3


def test_the_message_says_how_many_and_how_long() -> None:
    busy = refusal(with_pace(10, 5), 1, 5)
    assert str(busy).startswith("4 completions")
    assert f"try again in {busy.retry_after_ms / 1000:.1f} s" in str(busy)


def test_the_hint_follows_the_pace() -> None:
    assert refusal(with_pace(2, 10), 1, 10).retry_after_ms == pytest.approx(500, rel=0.1)
    assert refusal(with_pace(2, 10), 4, 10).retry_after_ms == pytest.approx(2000, rel=0.1)


def test_who_is_refused_later_comes_back_later() -> None:
    places = with_pace(2, 10)
    hints = [refusal(places, 1, 10).retry_after_ms for _ in range(4)]
    assert hints == pytest.approx([500, 1000, 1500, 2000], rel=0.1)
    # Those tickets are over by then.
    assert refusal(places, 1, 15).retry_after_ms == pytest.approx(700, rel=0.1)


def test_the_hint_has_bounds() -> None:
    assert refusal(with_pace(200, 2), 1, 2).retry_after_ms == LEAST_SECONDS * 1000
    slow = with_pace(1, 5)
    hints = [refusal(slow, 1, 6).retry_after_ms for _ in range(100)]
    assert max(hints) == MOST_SECONDS * 1000
    # An hour later nobody knows the pace of then.
    assert refusal(slow, 1, 3600).retry_after_ms == 1000


def test_without_a_pace_it_is_a_second() -> None:
    places = Places(1)
    places.take(1, 0)
    assert [refusal(places, 1, 0).retry_after_ms for _ in range(3)] == [1000, 1000, 1000]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100)), max_size=50),
    st.integers(1, 10),
)
def test_no_history_leaves_the_bounds(events: list[tuple[int, float]], limit: int) -> None:
    places = Places(limit)
    now = 0.0
    for count, passed in events:
        now += passed
        if places.taken + count <= limit:
            places.take(count, now)
        else:
            assert LEAST_SECONDS * 1000 <= refusal(places, count, now).retry_after_ms <= MOST_SECONDS * 1000
            places.give_back(places.taken, now)
        assert 0 <= places.taken <= limit
