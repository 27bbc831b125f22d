from __future__ import annotations

import json

from factories import SOURCE, a_pod
from openmodel_operator.failures import pod_failure, worst_failure
from openmodel_operator.reasons import Reason


def test_a_healthy_pod_has_no_failure() -> None:
    assert pod_failure(a_pod("r"), SOURCE) is None
    assert pod_failure(a_pod("r", ready=False), SOURCE) is None
    assert pod_failure(a_pod("r", waiting={"reason": "ContainerCreating"}, ready=False), SOURCE) is None


def test_the_runtimes_own_words_are_passed_on() -> None:
    told = json.dumps({"reason": "InvalidCheckpoint", "message": "model.safetensors is truncated"})
    ended = {"exitCode": 78, "message": told, "finishedAt": "2026-01-01T00:00:00Z"}
    failure = pod_failure(a_pod("r", ready=False, waiting={"reason": "CrashLoopBackOff"}, terminated=ended), SOURCE)
    assert failure is not None
    assert (failure.reason, failure.terminal, failure.exit_code) == (Reason.INVALID_CHECKPOINT, True, 78)
    assert "truncated" in failure.message
    assert "spec.model.source" in failure.message


def test_a_missing_model_image_names_the_field() -> None:
    message = 'Back-off pulling image "registry.example/models/mixtral:1": not found'
    failure = pod_failure(a_pod("r", ready=False, waiting={"reason": "ImagePullBackOff", "message": message}), SOURCE)
    assert failure is not None
    assert failure.terminal
    assert failure.message.startswith("spec.model.source")
    other = pod_failure(a_pod("r", ready=False, waiting={"reason": "ErrImagePull", "message": "x/y: no"}), SOURCE)
    assert other is not None
    assert "the runtime's image" in other.message


def test_a_pinned_image_is_known_by_its_repository() -> None:
    message = 'Back-off pulling image "registry.example/models/mixtral@sha256:00": not found'
    pod = a_pod("r", ready=False, waiting={"reason": "ImagePullBackOff", "message": message})
    failure = pod_failure(pod, SOURCE)
    assert failure is not None
    assert failure.message.startswith("spec.model.source")


def test_passing_failures_are_not_terminal() -> None:
    pods = [
        a_pod("r", name="a", unschedulable="0/1 nodes are available"),
        a_pod("r", name="b", ready=False, terminated={"exitCode": 137, "reason": "OOMKilled"}),
        a_pod("r", name="c", ready=False, terminated={"exitCode": 1}),
        a_pod("r", name="d", ready=False, waiting={"reason": "CreateContainerError", "message": "no"}),
    ]
    found = [pod_failure(pod, SOURCE) for pod in pods]
    assert [failure.reason for failure in found if failure] == [
        Reason.UNSCHEDULABLE,
        Reason.OUT_OF_MEMORY,
        Reason.CRASH_LOOP,
        Reason.CONTAINER_FAILED,
    ]
    assert not any(failure.terminal for failure in found if failure)


def test_a_foreign_termination_message_is_a_crash() -> None:
    for message in ("", "Traceback", '{"reason": "Nonsense", "message": "x"}', "[]"):
        failure = pod_failure(a_pod("r", ready=False, terminated={"exitCode": 78, "message": message}), SOURCE)
        assert failure is not None
        assert failure.reason is Reason.CRASH_LOOP


def test_a_terminal_failure_is_told_first() -> None:
    pods = [
        a_pod("r", name="a", unschedulable="no node"),
        a_pod("r", name="b", ready=False, waiting={"reason": "InvalidImageName", "message": "x"}),
    ]
    worst = worst_failure(pods, SOURCE)
    assert worst is not None
    assert worst.component == "b"
    assert worst_failure([], SOURCE) is None
