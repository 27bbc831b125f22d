"""The soak, for as long as a test may take."""

from __future__ import annotations

import pytest

from chaos.soak import soak


@pytest.mark.timeout(180)
def test_whatever_happens_to_a_group_its_answers_are_right_and_nothing_leaks() -> None:
    result = soak(20.0, seed=7)
    assert (result["faults"], result["leaked_cache_tokens"]) == ([], 0)
    assert result["requests"]["completed"] > result["requests"].get("cancelled", 0) > 0
    first, last = result["held"][0], result["held"][-1]
    for process in ("front", "rank"):
        # Of a group that changes just then there are two.
        assert last[process]["threads"] <= first[process]["threads"] + 4
        assert last[process]["kib"] <= 1.2 * first[process]["kib"]
