"""From arrival times to the figures of a round."""

from __future__ import annotations

import pytest

from bench.measure.timeline import Arrival, step_seconds, summarize


def stream(*times: float) -> list[Arrival]:
    return [(time, 1) for time in times]


def test_a_round_is_as_long_as_its_last_stream() -> None:
    figures = summarize(10.0, [stream(11, 12, 13), stream(13, 14, 15)])
    assert (figures.seconds, figures.first_token_s, figures.tokens) == (5.0, 2.0, 6)


def test_only_steps_that_all_streams_take_part_in_count() -> None:
    # Alone, the first stream is quick; together, a step takes one second; the second ends alone and quick.
    first = stream(0.0, 0.1, 0.2, 0.3, 1.0, 2.0, 3.0)
    second = stream(1.0, 2.0, 3.0, 3.1, 3.2, 3.3, 3.4)
    assert step_seconds([first, second]) == pytest.approx(1.0)


def test_streams_that_never_run_together_count_whole() -> None:
    assert step_seconds([stream(0, 1, 2), stream(5, 6, 7)]) == pytest.approx(1.0)


def test_an_arrival_of_several_tokens_is_as_many_steps() -> None:
    assert step_seconds([[(0.0, 1), (2.0, 2), (3.0, 1)]]) == pytest.approx(1.0)


def test_one_token_has_no_step() -> None:
    assert summarize(0.0, [stream(1.0)]).step_s == 0.0
