"""What can not be served ends in Stalled with the field and the remedy; what serves is left alone."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import write_tiny_llama
from e2e.conftest import REGISTRY, Operator, readable
from kubectl import condition, wait_until

pytestmark = pytest.mark.e2e


def _text(folder: Path) -> None:
    (folder / "model.safetensors").write_text("these are words, and no tensors, whatever the name of the file says")


def _truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": [0.0] * 10}))


def _architecture(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "architectures": ["GPT2LMHeadModel"]}))


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        (_text, "InvalidCheckpoint", "not a safetensors file"),
        (_truncated, "InvalidCheckpoint", "truncated"),
        (_pickle, "InvalidCheckpoint", "pickle"),
        (_architecture, "UnsupportedModel", "GPT2LMHeadModel"),
    ],
)
def test_a_bad_checkpoint_stalls(
    operator: Operator,
    namespace: str,
    push_checkpoint: Callable[[Path, str], str],
    tmp_path: Path,
    damage: Callable[[Path], None],
    reason: str,
    words: str,
) -> None:
    folder = readable(write_tiny_llama(tmp_path / "model", seed=5))
    damage(folder)
    source = push_checkpoint(readable(folder), f"bad{damage.__name__.replace('_', '-')}")
    operator.kubectl.apply(operator.model(namespace, "bad", source))
    model = operator.wait_for(namespace, "bad", "Stalled", "True", reason)
    status, _, message = condition(model, "Ready")
    assert status == "False"
    assert words in message
    assert "spec.model.source" in message
    assert condition(model, "Reconciling")[0] == "False"
    assert model["status"]["lastFailure"]["exitCode"] == 78


def test_another_checkpoint_than_the_one_that_is_pinned_is_not_served(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    model = operator.model(namespace, "pinned", tiny_source)
    model["spec"]["model"]["digest"] = "sha256:" + "0" * 64
    operator.kubectl.apply(model)
    told = condition(operator.wait_for(namespace, "pinned", "Stalled", "True", "DigestMismatch"), "Ready")[2]
    assert not operator.kubectl.list("sts", namespace)
    (found,) = re.findall(r"spec\.model\.digest: the checkpoint has (sha256:[0-9a-f]{64})", told)
    model["spec"]["model"]["digest"] = found
    operator.kubectl.apply(model)
    assert operator.wait_for(namespace, "pinned", "Ready", "True")["status"]["model"]["digest"] == found


def test_a_missing_image_stalls(operator: Operator, namespace: str) -> None:
    source = f"oci://{REGISTRY}/openmodel/models/nowhere:1"
    operator.kubectl.apply(operator.model(namespace, "missing", source))
    model = operator.wait_for(namespace, "missing", "Stalled", "True", "ImagePullFailed")
    assert condition(model, "Ready")[2].startswith(
        f"spec.model.source: the image {REGISTRY}/openmodel/models/nowhere:1"
    )


def test_a_volume_that_can_not_be_mounted_is_told_in_the_kubelets_words(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    volume = {"name": "certificate", "secret": {"secretName": "nowhere"}}
    runtime = {"name": "runtime", "volumeMounts": [{"name": "certificate", "mountPath": "/certificate"}]}
    template = {"spec": {"volumes": [volume], "containers": [runtime]}}
    operator.kubectl.apply(operator.model(namespace, "mounts", tiny_source, podTemplate=template))
    model = operator.wait_for(namespace, "mounts", "Ready", "False", "MountFailed")
    assert 'secret "nowhere" not found' in model["status"]["lastFailure"]["message"]


def test_a_field_that_is_not_built_is_refused_by_name(operator: Operator, namespace: str, tiny_source: str) -> None:
    spec = {"access": {"tokensPerMinute": 2}}
    operator.kubectl.apply(operator.model(namespace, "early", tiny_source, **spec))
    model = operator.wait_for(namespace, "early", "Planned", "False", "UnsupportedField")
    assert condition(model, "Stalled")[:2] == ("True", "UnsupportedField")
    assert "spec.access.tokensPerMinute" in condition(model, "Planned")[2]
    assert operator.pods(namespace, "early") == []


def test_a_service_of_that_name_is_never_taken_over(operator: Operator, namespace: str, tiny_source: str) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken", "namespace": namespace},
        "spec": {"selector": {"app": "other"}, "ports": [{"port": 80}]},
    }
    operator.kubectl.apply(foreign)
    before = operator.kubectl.get("service", "taken", namespace)
    operator.kubectl.apply(operator.model(namespace, "taken", tiny_source))
    model = operator.wait_for(namespace, "taken", "Stalled", "True", "NameTaken")
    assert "metadata.name" in condition(model, "Stalled")[2]
    assert operator.kubectl.get("service", "taken", namespace) == before
    assert operator.children(namespace, "taken") == {}
    operator.kubectl("delete", "service", "taken", "-n", namespace)
    operator.wait_for(namespace, "taken", "Ready", "True")


def test_what_the_api_server_refuses_stalls(operator: Operator, namespace: str, tiny_source: str) -> None:
    for name, template in (("odd", {"spec": {"nonsense": 1}}), ("wrong", {"spec": {"restartPolicy": "Sometimes"}})):
        operator.kubectl.apply(operator.model(namespace, name, tiny_source, podTemplate=template))
        operator.wait_for(namespace, name, "Stalled", "True", "ApplyRejected")


def test_a_network_policy_of_that_name_is_never_taken_over(
    operator: Operator, namespace: str, tiny_source: str
) -> None:
    metadata = {"name": "taken", "namespace": namespace}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata}
    operator.kubectl.apply({**policy, "spec": {"podSelector": {"matchLabels": {"app": "other"}}}})
    before = operator.kubectl.get("networkpolicy", "taken", namespace)
    operator.kubectl.apply(operator.model(namespace, "taken", tiny_source))
    operator.wait_for(namespace, "taken", "Stalled", "True", "NameTaken")
    assert operator.kubectl.get("networkpolicy", "taken", namespace) == before


def test_a_bad_change_leaves_what_serves(operator: Operator, namespace: str, tiny_source: str) -> None:
    good = operator.model(namespace, "model", tiny_source)
    operator.kubectl.apply(good)
    before = operator.wait_for(namespace, "model", "Ready", "True")["status"]["rollout"]["revision"]
    bad = {**good, "spec": {**good["spec"], "model": {"source": f"oci://{REGISTRY}/openmodel/models/nowhere:2"}}}
    operator.kubectl.apply(bad)
    model = operator.wait_for(namespace, "model", "Stalled", "True", "ImagePullFailed")
    assert model["status"]["rollout"]["revision"] == before
    assert model["status"]["readyReplicas"] == 1
    operator.kubectl.apply(good)
    operator.wait_for(namespace, "model", "Ready", "True")
    wait_until("one StatefulSet", lambda: len(operator.kubectl.list("sts", namespace)) == 1)
