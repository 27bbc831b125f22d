"""A group of several pods: real weights, shared by ranks that come and go while it serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from e2e.conftest import Operator, example
from kubectl import wait_until
from model_client import stream
from port_forward import port_forward

pytestmark = pytest.mark.e2e
NAME = "smollm2-moe"
QUESTION = [{"role": "user", "content": "Name a sea."}]


def answer(address: str) -> str:
    return "".join(piece.text for piece in stream(address, NAME, QUESTION, temperature=0, max_tokens=32))


@contextmanager
def under_load(addresses: list[str]) -> Iterator[list[Future[list[str]]]]:
    """One stream after another on each address, until the end."""
    over = Event()

    def ask(address: str) -> list[str]:
        answers = []
        while not over.is_set():
            answers.append(answer(address))
        return answers

    with ThreadPoolExecutor(len(addresses)) as pool:
        asking = [pool.submit(ask, address) for address in addresses]
        try:
            yield asking
        finally:
            over.set()


def group_of(operator: Operator, namespace: str, size: int) -> dict[str, str]:
    """The pods of a group once it has so many, all ready: names and uids."""

    def look() -> dict[str, str] | None:
        pods = operator.pods(namespace, NAME)
        if len(pods) != size or not all(is_ready(pod) for pod in pods):
            return None
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}

    return wait_until(f"{size} ready pods", look)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def test_a_live_group_changes_its_size_and_loses_a_pod(
    operator: Operator, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pods, three, two, and one that is deleted: no call fails, no answer differs, no other pod is touched."""
    for key, value in operator.kubectl.env.items():
        monkeypatch.setenv(key, value)
    manifest = example(NAME, namespace)
    manifest["spec"]["parallelism"] = {"expert": 2}
    operator.kubectl.apply(manifest)
    status = operator.wait_for(namespace, NAME, "Ready", "True", "Serving")["status"]
    assert (status["plan"]["ranks"], status["plan"]["podsPerReplica"]) == (2, 2)
    uids = group_of(operator, namespace, 2)
    first, second = sorted(uids)
    with (
        port_forward(namespace, f"pod/{first}") as one,
        port_forward(namespace, f"pod/{second}") as two,
    ):
        expected = answer(one)
        assert expected
        with under_load([one, two]) as asking:
            for size in (3, 2):
                patch = json.dumps({"spec": {"parallelism": {"expert": size}}})
                operator.kubectl("patch", "om", NAME, "-n", namespace, "--type=merge", "-p", patch)
                pods = group_of(operator, namespace, size)
                assert {name: pods.get(name) for name in uids} == uids
                operator.wait_for(namespace, NAME, "Ready", "True", "Serving")
        answers = [text for each in asking for text in each.result()]
        assert set(answers) == {expected}
        with under_load([one]) as asking:
            operator.kubectl("delete", "pod", second, "-n", namespace, "--grace-period=1")
            after = wait_until("the pod is back", lambda: replaced(group_of(operator, namespace, 2), uids, second))
            assert after[first] == uids[first]
        assert set(asking[0].result()) == {expected}


def replaced(pods: dict[str, str], before: dict[str, str], name: str) -> dict[str, str] | None:
    return pods if pods[name] != before[name] else None
