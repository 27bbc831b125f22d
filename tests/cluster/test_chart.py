"""The chart: what it renders, and which values it refuses before anything is installed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl import Kubectl, KubectlError

pytestmark = pytest.mark.cluster
CHART = str(Path(__file__).resolve().parents[2] / "charts/openmodel")
IMAGES = ("--set", "images.operator=r.example/o:1", "--set", "images.runtime=r.example/r:1")


def render(cluster: Kubectl, *arguments: str) -> list[dict[str, Any]]:
    text = cluster.program("helm", "template", "release", CHART, "--namespace", "system", *arguments)
    return [document for document in yaml.safe_load_all(text) if document]


def test_it_renders_what_the_operator_needs(cluster: Kubectl) -> None:
    documents = render(cluster, *IMAGES)
    assert Counter(document["kind"] for document in documents) == {
        "CustomResourceDefinition": 1,
        "ServiceAccount": 1,
        "ClusterRole": 3,
        "ClusterRoleBinding": 1,
        "Role": 1,
        "RoleBinding": 1,
        "Deployment": 1,
        "PodDisruptionBudget": 1,
        "NetworkPolicy": 1,
    }
    assert not [
        item for item in render(cluster, *IMAGES, "--set", "crds.install=false") if "Definition" in item["kind"]
    ]


def test_the_operators_pod_is_restricted(cluster: Kubectl) -> None:
    deployment = next(item for item in render(cluster, *IMAGES) if item["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == "r.example/o:1"
    assert {"name": "OPENMODEL_RUNTIME_IMAGE", "value": "r.example/r:1"} in container["env"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_definition_is_kept_when_the_release_goes(cluster: Kubectl) -> None:
    definition = next(item for item in render(cluster, *IMAGES) if item["kind"] == "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "/images/operator"),
        ((*IMAGES, "--set", "replicas=many"), "/replicas"),
        ((*IMAGES, "--set", "resyncSeconds=0"), "/resyncSeconds"),
        ((*IMAGES, "--set", "crds.install=perhaps"), "/crds/install"),
    ],
)
def test_wrong_values_are_named(cluster: Kubectl, arguments: tuple[str, ...], named: str) -> None:
    with pytest.raises(KubectlError) as refused:
        render(cluster, *arguments)
    assert named in str(refused.value).replace(".", "/") or named in str(refused.value)
