"""Models of a hub: fetched by Jobs into a claim, mounted by pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoints import write_tiny_mixtral
from e2e.conftest import Operator
from hub_server import HubDouble, serve_hub
from kubectl import condition, wait_until

pytestmark = pytest.mark.e2e

REPOSITORY = "openmodel/tiny"
TOKEN = "hf_of_the_test"


@pytest.fixture
def hub(operator: Operator, tmp_path: Path) -> Iterator[HubDouble]:
    """A hub on this machine, as pods see it; it wants a token."""
    address = operator.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}")
    folder = write_tiny_mixtral(tmp_path / "model", seed=7, shards=2)
    with serve_hub(HubDouble(REPOSITORY, folder, token=TOKEN, gated=True), "0.0.0.0", address) as served:
        yield served


def hub_model(operator: Operator, namespace: str, name: str, hub: HubDouble, **fields: Any) -> dict[str, Any]:
    model = operator.model(namespace, name, f"hf://{REPOSITORY}")
    model["spec"]["model"] |= {"endpoint": hub.url, "secretRef": {"name": "hub", "key": "token"}, **fields}
    return model


def secret(namespace: str, token: str) -> dict[str, Any]:
    metadata = {"name": "hub", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}


def test_a_hubs_model_is_fetched_once_and_served_by_pods_that_see_no_token(
    operator: Operator, namespace: str, hub: HubDouble
) -> None:
    operator.kubectl.apply(secret(namespace, TOKEN), hub_model(operator, namespace, "one", hub))
    one = operator.wait_for(namespace, "one", "Ready", "True")
    assert one["status"]["model"]["revision"] == hub.commit
    assert one["status"]["model"]["digest"].startswith("sha256:")
    assert one["status"]["model"]["download"]["bytes"] == one["status"]["model"]["download"]["total"] > 0
    assert condition(one, "WeightsReady")[0] == "True"
    (pod,) = operator.pods(namespace, "one")
    assert "secret" not in str(pod["spec"]["volumes"])
    sent = dict(hub.sent)
    operator.kubectl.apply(hub_model(operator, namespace, "two", hub))
    operator.wait_for(namespace, "two", "Ready", "True")
    assert hub.sent == sent
    claims = operator.kubectl.list("persistentvolumeclaims", namespace)
    assert len(claims) == 1
    operator.kubectl("delete", "openmodel", "one", "-n", namespace)
    wait_until("its pods are gone", lambda: not operator.pods(namespace, "one"))
    assert condition(operator.get(namespace, "two"), "Ready")[0] == "True"
    operator.kubectl("delete", "openmodel", "two", "-n", namespace)
    wait_until("the claim is gone", lambda: not operator.kubectl.list("persistentvolumeclaims", namespace))


def test_what_the_hub_refuses_is_told_and_mended_by_the_token(
    operator: Operator, namespace: str, hub: HubDouble
) -> None:
    operator.kubectl.apply(secret(namespace, "hf_wrong"), hub_model(operator, namespace, "model", hub))
    model = operator.wait_for(namespace, "model", "Stalled", "True", "SourceRefused")
    message = condition(model, "Ready")[2]
    assert "is gated" in message
    assert "spec.model.secretRef" in message
    assert TOKEN not in str(model)
    operator.kubectl.apply(secret(namespace, TOKEN))
    operator.kubectl("delete", "jobs", "--all", "-n", namespace)
    operator.wait_for(namespace, "model", "Ready", "True")
