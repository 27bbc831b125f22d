"""What may happen to operators, against the real API server: nothing of it is lost, doubled, or needs a hand."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kubectl import Kubectl, wait_until
from kwok import played_nodes
from operators import Operators

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.cluster


@pytest.fixture
def operators(api: Kubectl, namespace: str, tmp_path: Path) -> Iterator[Operators]:
    """None runs yet; an operator of other tests would do their work."""
    api("delete", "deployment", "-n", "openmodel-system", "--all", "--ignore-not-found")
    made = Operators(api, namespace, tmp_path)
    # Anew for each test: kwok gives its nodes up when the API server is away.
    with played_nodes(api, 2, tmp_path):
        yield made
        made.stop()
        # The next test's operators are not to be busy with them.
        api("delete", "openmodels", "--all", "-n", namespace)


def restart_api_server(kubectl: Kubectl) -> None:
    # What works with it would come back to it only after minutes.
    for component in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        kubectl.program(str(ROOT / "hack/cluster/restart"), component)


def test_a_leader_that_is_killed_in_a_rollout_is_followed_and_so_is_the_next(operators: Operators) -> None:
    first, second = operators.start("first"), operators.start("second")
    assert first.leads
    assert not second.leads
    count = len(operators.models(12))
    operators.all_ready(count)
    operators.models(count, engine={"maxModelLen": 512})
    wait_until("the rollout began", lambda: len(operators.kubectl.list("statefulsets", operators.namespace)) > count)
    first.send(signal.SIGKILL)
    wait_until("the second leads", lambda: second.leads)
    # Both are away, and one that has seen nothing goes on.
    second.send(signal.SIGKILL)
    third = operators.start("third")
    operators.all_ready(count)
    kept = operators.kubectl.list("statefulsets", operators.namespace)
    assert len(kept) == count, "what served before is gone, and nothing is doubled"
    assert third.leads
    assert third.metric("openmodel_operator_reconcile_errors_total") == 0


def test_one_that_ends_lets_the_next_in_at_once_and_who_comes_anew_writes_nothing(operators: Operators) -> None:
    first, second = operators.start("first"), operators.start("second")
    count = len(operators.models(3))
    operators.all_ready(count)
    before = operators.versions()
    looks = "openmodel_operator_reconcile_duration_seconds_count"
    first.send(signal.SIGTERM)
    assert first.process.returncode == 0
    wait_until("the second leads", lambda: second.leads, timeout=10)
    wait_until("it has looked at all", lambda: second.metric(looks) >= count)
    assert second.requests(write=True) == 0
    assert operators.versions() == before


def test_an_api_server_that_is_away_is_waited_for(operators: Operators) -> None:
    operator = operators.start("only")
    operators.models(1)
    operators.all_ready(1)
    operators.kubectl.program(str(ROOT / "hack/cluster/stop"), "kube-apiserver")
    try:
        wait_until("it does not act any more", lambda: not operator.leads)
    finally:
        restart_api_server(operators.kubectl)
    operators.models(2)
    operators.all_ready(2)
    assert operator.process.poll() is None, operator.log.read_text()[-2000:]


def test_what_went_while_a_watch_was_cut_is_noticed(operators: Operators) -> None:
    """A restarted API server knows no old version: watches end with 410 Gone, and lists do not tell what went."""
    operator = operators.start("only")
    operators.models(3)
    operators.all_ready(3)
    operator.send(signal.SIGSTOP)
    operators.kubectl("delete", "statefulsets,services", "-n", operators.namespace, "-l", "openmodel.dev/model=model-0")
    operators.kubectl("delete", "openmodel", "model-1", "-n", operators.namespace)
    restart_api_server(operators.kubectl)
    operator.send(signal.SIGCONT)

    def of(kind: str) -> list[str]:
        found = operators.kubectl.list(kind, operators.namespace, "app.kubernetes.io/instance")
        return sorted(item["metadata"]["labels"]["app.kubernetes.io/instance"] for item in found)

    wait_until("what went is there again", lambda: of("statefulsets") == of("services") == ["model-0", "model-2"])
    operators.all_ready(2)


def test_who_writes_against_it_is_put_right_and_what_is_not_ours_is_left(operators: Operators) -> None:
    operators.start("only")
    operators.models(1)
    operators.all_ready(1)
    (name,) = [item["metadata"]["name"] for item in operators.kubectl.list("statefulsets", operators.namespace)]
    for count in (2, 3, 4):
        body = f'{{"spec":{{"replicas":{count}}}}}'
        operators.kubectl("patch", "statefulset", name, "-n", operators.namespace, "--type=merge", "-p", body)
    operators.kubectl("annotate", "service", "model-0", "-n", operators.namespace, "example.com/theirs=stays")
    operators.kubectl("delete", "networkpolicy", "model-0", "-n", operators.namespace)

    def put_right() -> bool:
        found = operators.kubectl.get("statefulset", name, operators.namespace)
        policy = operators.kubectl.get("networkpolicy", "model-0", operators.namespace)
        return found is not None and found["spec"]["replicas"] == 1 and policy is not None

    wait_until("it is as it should be", put_right)
    service = operators.kubectl.get("service", "model-0", operators.namespace)
    assert service is not None
    assert service["metadata"]["annotations"]["example.com/theirs"] == "stays"


def test_pods_that_a_quota_refuses_are_told_in_its_words_and_come_when_it_goes(operators: Operators) -> None:
    operators.start("only")
    namespace = operators.namespace
    operators.models(1)
    operators.all_ready(1)
    operators.kubectl("create", "quota", "none", "-n", namespace, "--hard=pods=1")
    operators.models(1, engine={"maxModelLen": 512})

    def told() -> bool:
        model = operators.kubectl.get("openmodel", "model-0", namespace)
        assert model is not None
        failure = model["status"].get("lastFailure", {})
        return failure.get("reason") == "PodsRefused" and "exceeded quota" in failure["message"]

    wait_until("the quota's words are in the status", told, timeout=30)
    operators.kubectl("delete", "quota", "none", "-n", namespace)
    operators.all_ready(1)


def test_a_namespace_that_goes_takes_its_models_along_and_no_others(operators: Operators) -> None:
    operator = operators.start("only")
    gone = f"{operators.namespace}-gone"
    operators.kubectl("create", "namespace", gone)
    operators.models(8, namespace=gone)
    operators.models(2)
    operators.kubectl("delete", "namespace", gone, "--timeout=90s")
    operators.all_ready(2)
    operators.models(2, engine={"maxModelLen": 512})
    operators.all_ready(2)
    assert operator.process.poll() is None


def test_a_definition_that_grows_changes_nothing_of_what_is_stored(operators: Operators) -> None:
    operators.start("only")
    operators.models(2)
    operators.all_ready(2)
    before = operators.versions()
    definition = yaml.safe_load((ROOT / "crds/openmodel.yaml").read_text())
    (version,) = definition["spec"]["versions"]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["later"] = {"type": "string"}
    operators.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump(definition))
    try:
        assert operators.versions() == before
        operators.kubectl("scale", "openmodel/model-0", "--replicas=2", "-n", operators.namespace)
        operators.all_ready(2)
    finally:
        operators.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
