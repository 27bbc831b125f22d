"""What the user is told of groups whose ranks share experts."""

from __future__ import annotations

import pytest

from factories import a_report, a_spec
from openmodel_operator.group_status import coverage_verdict, experts_status, refused_shrink, survives
from openmodel_operator.plan import plan_group
from openmodel_operator.reasons import Reason


def test_coverage_is_what_every_group_says() -> None:
    whole, lacking = a_report(), a_report(ranks=1, missing_experts=4)
    assert coverage_verdict({"a": whole}, serving=True)[:2] == (True, Reason.ALL_EXPERTS_SERVED)
    assert coverage_verdict({}, serving=False)[:2] == (None, Reason.NOT_SERVING)
    status, reason, message = coverage_verdict({"a": whole, "b": lacking}, serving=True)
    assert (status, reason) == (False, Reason.EXPERTS_MISSING)
    assert message.startswith("group b: 4 of 8 experts of each layer are served by nobody: the 1 of 4 ranks")


def test_a_model_survives_what_each_of_its_groups_does() -> None:
    assert survives({}) == {}
    both = {"a": a_report(), "b": a_report(survives_process_loss=1, survives_pod_loss=0)}
    assert survives(both) == {"survives": {"processLoss": 1, "podLoss": 0}}


@pytest.mark.parametrize(
    ("before", "now", "told"), [(1.3, 1.38, 1.3), (1.3, 1.41, 1.4), (1.3, 0.0, 1.3), (None, 1.04, 1.0)]
)
def test_imbalance_is_told_anew_when_it_is_clearly_another(before: float | None, now: float, told: float) -> None:
    known = {} if before is None else {"experts": {"imbalance": before}}
    assert experts_status(known, {"a": a_report(imbalance=now)}) == {"experts": {"imbalance": told}}


def test_what_was_told_stands_while_nobody_answers() -> None:
    known = {"experts": {"imbalance": 1.2, "lastRebalance": "2026-01-01T00:00:00Z"}}
    assert experts_status(known, {}) == known
    assert experts_status({}, {}) == {}
    moved = experts_status(known, {"a": a_report(last_rebalance=1767312000.7)})
    assert moved["experts"]["lastRebalance"] == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize(("ranks", "refused"), [(1, True), (2, False), (3, False)])
def test_a_live_group_is_not_made_smaller_than_its_memory_allows(ranks: int, refused: bool) -> None:
    plan = plan_group(a_spec(parallelism={"expert": ranks}))
    said = refused_shrink(plan, {"a": a_report()})
    assert (said is not None) == refused
    if said is not None:
        assert said.startswith("spec.parallelism.expert 1: ")
        assert "at least 2 ranks" in said


def test_a_group_that_was_always_too_small_is_not_refused_what_it_is() -> None:
    assert refused_shrink(plan_group(a_spec(parallelism={"expert": 1})), {"a": a_report(wanted_ranks=1)}) is None
