from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from factories import IDENTITY, IMAGE, a_pod, a_spec, an_outlook, observed_after
from openmodel_operator.events import capture_event, transition_event
from openmodel_operator.failures import Failure
from openmodel_operator.job_progress import Underway
from openmodel_operator.observed import Observed
from openmodel_operator.outlook import Blocked
from openmodel_operator.plan import plan_group
from openmodel_operator.reasons import ConditionType, Reason
from openmodel_operator.rollout import plan_actions
from openmodel_operator.spec import OpenModelSpec
from openmodel_operator.status import blocked_status, model_status, underway_status
from openmodel_operator.status_patch import status_patch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
OBJECT = {"metadata": {"name": "mixtral", "namespace": "default", "uid": "u"}}


def status(
    spec: OpenModelSpec, observed: Observed, before: dict[str, Any] | None = None, now: datetime = NOW
) -> dict[str, Any]:
    plan = plan_group(spec)
    actions = plan_actions(IDENTITY, spec, plan, observed, IMAGE)
    return model_status(IDENTITY, spec, plan, actions, observed, an_outlook(spec), before or {}, 3, now)


def started(spec: OpenModelSpec, *pods: dict[str, Any], proven: bool = True) -> Observed:
    """The world after the first step, with these pods."""
    actions = plan_actions(IDENTITY, spec, plan_group(spec), Observed(), IMAGE)
    named = [{**pod, "metadata": {**pod["metadata"], "labels": {**pod["metadata"]["labels"]}}} for pod in pods]
    for pod in named:
        pod["metadata"]["labels"]["openmodel.dev/revision"] = actions.revision
    return observed_after(actions, pods=named, proven=proven)


def verdict(result: dict[str, Any], kind: str) -> tuple[str, str]:
    item = next(item for item in result["conditions"] if item["type"] == kind)
    return item["status"], item["reason"]


def test_every_condition_is_there_from_the_first_visit() -> None:
    result = status(a_spec(), Observed())
    assert [item["type"] for item in result["conditions"]] == [str(item) for item in ConditionType]
    assert all(item["observedGeneration"] == 3 for item in result["conditions"])
    assert verdict(result, "Ready") == ("False", "Starting")
    assert verdict(result, "Reconciling") == ("True", "Progressing")
    assert verdict(result, "WeightsReady") == ("Unknown", "NotLoaded")


def test_ready_needs_a_real_inference() -> None:
    assert verdict(status(a_spec(), started(a_spec(), a_pod("r"), proven=False)), "Ready") == ("False", "ProbeFailed")
    result = status(a_spec(), started(a_spec(), a_pod("r")))
    assert verdict(result, "Ready") == ("True", "Serving")
    assert verdict(result, "Reconciling") == ("False", "Settled")
    assert result["readyReplicas"] == 1
    assert result["endpoint"] == "grpc://mixtral.default.svc:8001"
    assert result["coldStart"] == {"scheduled": 1.0, "mount": 2.0, "load": 7.0, "firstToken": 0.2}
    # Another operator asks the same pod, which is warm by now: nothing of that is news.
    again = started(a_spec(), a_pod("r"))
    proofs = {key: replace(proof, seconds=0.1) for key, proof in again.proofs.items()}
    assert status(a_spec(), replace(again, proofs=proofs), result) == result


def test_ready_stays_while_a_group_is_added() -> None:
    first = started(a_spec(), a_pod("r"))
    actions = plan_actions(IDENTITY, a_spec(), plan_group(a_spec()), first, IMAGE)
    result = status(a_spec(replicas=2), observed_after(actions, pods=first.pods))
    assert verdict(result, "Ready") == ("True", "Serving")
    assert verdict(result, "Reconciling") == ("True", "Progressing")


def test_terminal_failures_stall_and_passing_ones_do_not() -> None:
    pull = a_pod("r", ready=False, waiting={"reason": "ImagePullBackOff", "message": "x"})
    result = status(a_spec(), started(a_spec(), pull))
    assert verdict(result, "Ready") == ("False", "ImagePullFailed")
    assert verdict(result, "Stalled") == ("True", "ImagePullFailed")
    assert verdict(result, "Reconciling") == ("False", "Settled")
    assert result["lastFailure"]["reason"] == "ImagePullFailed"
    crash = a_pod("r", ready=False, terminated={"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"})
    result = status(a_spec(), started(a_spec(), crash))
    assert verdict(result, "Ready") == ("False", "CrashLoop")
    assert verdict(result, "Stalled") == ("False", "NotStalled")
    assert result["lastFailure"]["exitCode"] == 1


def test_zero_and_suspended() -> None:
    spec = a_spec(replicas=0)
    proven = started(spec, a_pod("r"))
    actions = plan_actions(IDENTITY, spec, plan_group(spec), proven, IMAGE)
    assert verdict(status(spec, observed_after(actions)), "Ready") == ("True", "ScaledToZero")
    result = status(a_spec(suspend=True), Observed())
    assert verdict(result, "Ready") == ("False", "Suspended")
    assert verdict(result, "Reconciling") == ("False", "Settled")
    assert verdict(result, "Stalled") == ("False", "NotStalled")


def test_a_refused_spec_leaves_the_rest_of_the_status() -> None:
    before = status(a_spec(), started(a_spec(), a_pod("r")))
    blocked = Blocked(Reason.UNSUPPORTED_FIELD, "spec.autoscaling: no", planned=False)
    result = blocked_status(before, 4, blocked, LATER)
    assert verdict(result, "Planned") == ("False", "UnsupportedField")
    assert verdict(result, "Stalled") == ("True", "UnsupportedField")
    assert verdict(result, "WeightsReady") == ("True", "Loaded")
    assert result["readyReplicas"] == 1
    assert result["observedGeneration"] == 4


def test_looking_again_writes_nothing() -> None:
    for observed in (
        started(a_spec(), a_pod("r")),
        started(a_spec(), a_pod("r", ready=False, waiting={"reason": "ErrImagePull", "message": "x"})),
    ):
        before = status(a_spec(), observed)
        assert status_patch(before, status(a_spec(), observed, before, LATER)) == {}


def test_transition_times_move_with_the_status_only() -> None:
    before = status(a_spec(), Observed())
    after = status(a_spec(), started(a_spec(), a_pod("r")), before, LATER)
    times = {item["type"]: item["lastTransitionTime"] for item in after["conditions"]}
    assert times["Ready"] == "2026-01-02T00:00:00Z"
    assert times["Admitted"] == "2026-01-01T00:00:00Z"


def test_patches_replace_add_and_remove() -> None:
    assert status_patch({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]}, {"b": {"c": 1, "d": 3}, "e": [2], "f": 0}) == {
        "a": None,
        "b": {"d": 3},
        "e": [2],
        "f": 0,
    }


def test_an_event_tells_of_each_change_of_ready() -> None:
    before = status(a_spec(), Observed())
    after = status(a_spec(), started(a_spec(), a_pod("r")), before)
    event = transition_event(OBJECT, before, after, NOW)
    assert event is not None
    assert (event["type"], event["reason"]) == ("Normal", "Serving")
    assert transition_event(OBJECT, after, after, NOW) is None
    stalled = status(a_spec(), started(a_spec(), a_pod("r", ready=False, waiting={"reason": "InvalidImageName"})))
    event = transition_event(OBJECT, after, stalled, NOW)
    assert event is not None
    assert event["type"] == "Warning"


def test_the_bill_of_a_rank_stands_in_the_plan() -> None:
    spec = a_spec(parallelism={"expert": 4}, resources={"limits": {"memory": "4Gi"}})
    result = status(spec, started(spec, a_pod("?")))
    plan = result["plan"]
    assert sum(plan["bytesPerRank"].values()) == 4 << 30
    assert plan["kvCacheTokens"] > 0
    assert plan["survives"] == {"processLoss": 1, "podLoss": 1}
    assert result["model"]["architecture"] == "MixtralForCausalLM"
    assert verdict(result, "Planned") == ("True", "PlanMade")


def being_inspected(
    before: dict[str, Any], generation: int, now: datetime, failure: Failure | None = None
) -> dict[str, Any]:
    job = Underway(Reason.INSPECTING, "a Job looks", failure)
    return underway_status(before, generation, job, plan_group(a_spec()), job, now)


def test_while_a_checkpoint_is_fetched_its_plan_stands() -> None:
    spec = a_spec(model={"source": "hf://o/n"})
    job = Underway(Reason.FETCHING, "a Job fetches")
    result = underway_status({}, 1, job, plan_group(spec), an_outlook(spec), NOW)
    assert verdict(result, "Ready") == ("False", "Fetching")
    assert verdict(result, "WeightsReady") == ("False", "Fetching")
    assert verdict(result, "Planned") == ("True", "PlanMade")
    assert result["plan"]["bytesPerRank"]["weights"] > 0


def test_while_a_checkpoint_is_inspected_nothing_is_said_of_it() -> None:
    result = being_inspected({}, 1, NOW)
    assert verdict(result, "Ready") == ("False", "Inspecting")
    assert verdict(result, "Planned") == ("Unknown", "Inspecting")
    assert verdict(result, "Reconciling") == ("True", "Progressing")
    assert verdict(result, "Stalled")[0] == "False"


def test_what_keeps_an_inspection_from_going_on_is_told_with_its_last_words() -> None:
    failure = Failure(component="pod", reason=Reason.IMAGE_PULL_FAILED, message="no such image", terminal=True)
    result = being_inspected({}, 1, NOW, failure)
    assert verdict(result, "Ready") == ("False", "ImagePullFailed")
    assert verdict(result, "Stalled") == ("True", "ImagePullFailed")
    assert result["lastFailure"]["message"] == "no such image"


def test_an_inspection_that_is_tried_again_changes_nothing_before_it_has_news() -> None:
    failure = Failure(component="pod", reason=Reason.INVALID_CHECKPOINT, message="no config.json", terminal=True)
    blocked = Blocked(failure.reason, failure.message, planned=False, failure=failure)
    before = blocked_status({}, 1, blocked, NOW)
    assert being_inspected(before, 1, LATER) == before
    assert verdict(being_inspected(before, 2, LATER), "Stalled")[0] == "False"


def test_a_paused_rollout_is_at_rest_and_says_so() -> None:
    spec = a_spec(rollout={"paused": True})
    result = status(spec, Observed())
    assert verdict(result, "Ready") == ("False", "Paused")
    assert verdict(result, "Reconciling")[0] == "False"
    assert result["effective"]["rollout"]["paused"] is True


def test_that_prompts_leave_the_pods_is_said_for_as_long_as_they_do() -> None:
    capturing = a_spec(telemetry={"otlpEndpoint": "http://collector:4317", "captureContent": True})
    pod = a_pod("r")
    captured = status(capturing, started(capturing, pod))
    assert verdict(captured, "Admitted") == ("True", "ContentCaptured")
    told = capture_event(OBJECT, {}, captured, NOW)
    assert told is not None
    assert (told["type"], told["reason"]) == ("Warning", "ContentCaptured")
    assert "http://collector:4317" in told["message"]
    assert capture_event(OBJECT, captured, captured, LATER) is None
    elsewhere = a_spec(telemetry={"otlpEndpoint": "http://another:4317", "captureContent": True})
    moved = capture_event(OBJECT, captured, status(elsewhere, started(capturing, pod), captured), LATER)
    assert moved is not None
    assert "http://another:4317" in moved["message"]
    # What is not started yet tells nothing.
    waiting = a_spec(
        telemetry={"otlpEndpoint": "http://collector:4317", "captureContent": True}, rollout={"paused": True}
    )
    assert verdict(status(waiting, started(a_spec(), pod)), "Admitted") == ("True", "NoPolicy")
    # The next revision is on its way, or refused: pods of the old one still serve.
    under_way = status(a_spec(), started(capturing, pod), captured)
    refused = blocked_status(captured, 4, Blocked(Reason.INVALID_SPEC, "no", planned=False), LATER)
    assert verdict(under_way, "Admitted") == verdict(refused, "Admitted") == ("True", "ContentCaptured")
    after = status(a_spec(), started(a_spec(), pod), under_way)
    assert verdict(after, "Admitted") == ("True", "NoPolicy")
    suspended = status(a_spec(suspend=True), replace(started(capturing, pod), stateful_sets=[]), captured)
    assert verdict(suspended, "Admitted") == ("True", "NoPolicy")
