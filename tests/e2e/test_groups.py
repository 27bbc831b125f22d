"""A group of several pods: real weights, shared by ranks that come and go while it serves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event

import grpc
import pytest

from e2e.conftest import Operator, example
from e2e.rank_processes import bytes_read, memory, ranks_of
from kubectl import wait_until
from model_client import stream
from openmodel_operator.observed import is_ready
from openmodel_protos import load_pb2, load_pb2_grpc
from openmodel_runtime.checkpoint.tensor_files import tensor_entries
from port_forward import port_forward

pytestmark = pytest.mark.e2e
NAME = "smollm2-moe"
DENSE = "smollm2"
QUESTION = [{"role": "user", "content": "Name a sea."}]


def answer(address: str, name: str = NAME, max_tokens: int = 32) -> str:
    return "".join(piece.text for piece in stream(address, name, QUESTION, temperature=0, max_tokens=max_tokens))


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


def group_of(operator: Operator, namespace: str, size: int, name: str = NAME) -> dict[str, str]:
    """The pods of a group once it has so many, all ready: names and uids."""

    def look() -> dict[str, str] | None:
        pods = operator.pods(namespace, name)
        if len(pods) != size or not all(is_ready(pod) for pod in pods):
            return None
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}

    return wait_until(f"{size} ready pods", look)


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


def expert_bytes(folder: Path) -> tuple[int, int]:
    """Bytes of the experts, and of everything else, in a checkpoint."""
    sizes = {name: entry.end - entry.begin for name, entry in tensor_entries(folder).items()}
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    return experts, sum(sizes.values()) - experts


def test_ranks_in_pods_of_their_own_hold_a_quarter_each_and_lose_one_of_them(
    operator: Operator, namespace: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four pods. The rank of the first is killed, then stopped, from outside: streams of the others go on unchanged."""
    for key, value in operator.kubectl.env.items():
        monkeypatch.setenv(key, value)
    manifest = example(NAME, namespace)
    manifest["spec"]["parallelism"] = {"expert": 4}
    # A small cache, so that memory is weights; then there is room for all experts on every rank.
    manifest["spec"]["engine"] = {"maxModelLen": 512, "maxNumSeqs": 8}
    operator.kubectl.apply(manifest)
    status = operator.wait_for(namespace, NAME, "Ready", "True", "Serving")["status"]
    assert status["plan"]["survives"] == {"processLoss": 3, "podLoss": 3}
    uids = group_of(operator, namespace, 4)
    experts, others = expert_bytes(models / "smollm2-moe-8x135m")
    for uid in uids.values():
        (rank,) = ranks_of(uid)
        # Beside its part of the weights, what Python and its libraries are: less than another quarter.
        assert experts / 4 + others <= bytes_read(rank) < experts / 2 + others
        assert memory(rank) < experts + others, memory(rank)
    first, *rest = sorted(uids)
    with ExitStack() as stack:
        addresses = [stack.enter_context(port_forward(namespace, f"pod/{name}")) for name in rest]
        expected = answer(addresses[0])
        assert expected
        with under_load(addresses) as asking:
            for number in (signal.SIGKILL, signal.SIGSTOP):
                (rank,) = ranks_of(uids[first])
                os.kill(rank, number)
                wait_until("another rank comes to the group", partial(came_back, addresses[0], uids[first], rank))
                assert group_of(operator, namespace, 4) == uids
        assert {text for each in asking for text in each.result()} == {expected}


def test_ranks_share_the_matrices_of_a_dense_model_and_wait_for_one_that_is_lost(
    operator: Operator, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pods, as the model has three key/value heads; callers reach the first through the Service."""
    for key, value in operator.kubectl.env.items():
        monkeypatch.setenv(key, value)
    manifest = example(DENSE, namespace)
    manifest["spec"]["parallelism"] = {"tensor": 3}
    operator.kubectl.apply(manifest)
    status = operator.wait_for(namespace, DENSE, "Ready", "True", "Serving")["status"]
    assert status["plan"]["reason"].startswith("3 ranks in 3 pods share each matrix")
    uids = group_of(operator, namespace, 3, DENSE)
    (first, follower, _) = sorted(uids)
    (service,) = operator.kubectl.list("endpointslices", namespace, f"kubernetes.io/service-name={DENSE}")
    assert [endpoint["targetRef"]["name"] for endpoint in service["endpoints"]] == [first]
    with port_forward(namespace, f"service/{DENSE}") as address:
        expected = answer(address, DENSE, 200)
        pieces = stream(address, DENSE, QUESTION, temperature=0, max_tokens=200)
        begun = next(pieces).text
        (rank,) = ranks_of(uids[follower])
        os.kill(rank, signal.SIGKILL)
        assert begun + "".join(piece.text for piece in pieces) == expected
        operator.wait_for(namespace, DENSE, "Ready", "True", "Serving")
        assert answer(address, DENSE, 200) == expected


def came_back(address: str, uid: str, gone: int) -> bool:
    """Whether a pod has another rank than the one that has gone, and all four ranks are in the group."""
    with grpc.insecure_channel(address) as channel:
        report = load_pb2_grpc.LoadStub(channel).Report(load_pb2.LoadRequest(), timeout=10)
    return ranks_of(uid) not in ([gone], []) and bool(report.ranks == 4)


def replaced(pods: dict[str, str], before: dict[str, str], name: str) -> dict[str, str] | None:
    return pods if pods[name] != before[name] else None
