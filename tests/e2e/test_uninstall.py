"""Taking the release away: models, their pods and the definitions stay, and go on when it is back."""

from __future__ import annotations

import pytest

from e2e.callers import Caller
from e2e.conftest import INSTALL, OPERATOR_NAMESPACE, Operator

pytestmark = pytest.mark.e2e


async def test_models_and_definitions_stay_when_the_release_goes(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    operator.kubectl.apply(operator.model(namespace, "tiny", tiny_source))
    operator.wait_for(namespace, "tiny", "Ready", "True")
    (before,) = operator.pods(namespace, "tiny")
    caller = Caller.of(operator.kubectl, namespace, "tiny")
    # A node learns of a Service's first pod within a second.
    answer = await caller.complete(patient=True)
    operator.kubectl.program("helm", "uninstall", "openmodel", "--namespace", OPERATOR_NAMESPACE, "--wait")
    try:
        assert operator.kubectl.list("deployments", OPERATOR_NAMESPACE) == []
        assert operator.get(namespace, "tiny") is not None
        assert await caller.complete() == answer
    finally:
        operator.kubectl.program(*INSTALL)
    operator.kubectl("scale", "om/tiny", "-n", namespace, "--replicas=2")
    operator.wait_for(namespace, "tiny", "Reconciling", "False")
    assert before["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in operator.pods(namespace, "tiny")}
