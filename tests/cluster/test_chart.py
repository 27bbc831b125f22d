"""The chart: what it renders, and which values it refuses before anything is installed."""

from __future__ import annotations

import json
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
        "ServiceAccount": 2,
        "ClusterRole": 4,
        "ClusterRoleBinding": 2,
        "Role": 1,
        "RoleBinding": 1,
        "Deployment": 2,
        "Pod": 1,
        "Service": 2,
        "PodDisruptionBudget": 2,
        "NetworkPolicy": 2,
    }
    assert not [
        item for item in render(cluster, *IMAGES, "--set", "crds.install=false") if "Definition" in item["kind"]
    ]


def test_helm_finds_nothing_wrong_with_it(cluster: Kubectl) -> None:
    assert "0 chart(s) failed" in cluster.program("helm", "lint", CHART, *IMAGES)


def test_all_of_the_router_is_left_out_where_it_is_not_wanted(cluster: Kubectl) -> None:
    documents = render(cluster, *IMAGES, "--set", "router.enabled=false")
    assert not [item for item in documents if item["metadata"]["name"].endswith("-router")]
    (operator,) = [item for item in documents if item["kind"] == "Deployment"]
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert "OPENMODEL_ROUTER_SERVICE" not in {item["name"] for item in container["env"]}


def test_spans_go_where_the_values_say(cluster: Kubectl) -> None:
    wanted = ("--set", "telemetry.otlpEndpoint=http://collector:4317", "--set-json", "telemetry.sampleRatio=0.5")
    for item in render(cluster, *IMAGES, *wanted):
        if item["kind"] == "Deployment":
            (container,) = item["spec"]["template"]["spec"]["containers"]
            env = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"
            assert env["OTEL_TRACES_SAMPLER_ARG"] == "0.5"


def test_what_others_look_at_is_there_when_it_is_asked_for(cluster: Kubectl) -> None:
    switches = [f"{name}.enabled=true" for name in ("podMonitor", "prometheusRule", "dashboards")]
    documents = render(cluster, *IMAGES, "--set", ",".join(switches))
    kinds = Counter(document["kind"] for document in documents)
    assert (kinds["PodMonitor"], kinds["PrometheusRule"], kinds["ConfigMap"]) == (3, 1, 5)
    for item in documents:
        if item["kind"] == "ConfigMap":
            ((name, text),) = item["data"].items()
            assert json.loads(text)["uid"] == f"openmodel-{name.removesuffix('.json')}"
        if item["kind"] == "PrometheusRule":
            assert item["spec"] == yaml.safe_load((Path(CHART) / "alerts.yaml").read_text())


def test_every_value_is_described() -> None:
    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        own = [] if "description" in schema else [path]
        below = [undescribed(field, f"{path}.{name}") for name, field in schema.get("properties", {}).items()]
        return [*own, *(item for items in below for item in items)]

    schema = json.loads((Path(CHART) / "values.schema.json").read_text())
    values = yaml.safe_load((Path(CHART) / "values.yaml").read_text())
    assert undescribed(schema, "") == [""]
    assert set(values) <= set(schema["properties"])


@pytest.mark.parametrize("name", ["operator", "router"])
def test_pods_are_restricted(cluster: Kubectl, name: str) -> None:
    deployments = [item for item in render(cluster, *IMAGES) if item["kind"] == "Deployment"]
    (deployment,) = [item for item in deployments if item["metadata"]["name"] == f"release-{name}"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["image"] == "r.example/o:1"
    env = {item["name"]: item.get("value") for item in container["env"]}
    assert name == "router" or env["OPENMODEL_RUNTIME_IMAGE"] == "r.example/r:1"
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


def test_the_scaler_has_a_certificate_where_one_is_named_and_asks_for_one_only_then(cluster: Kubectl) -> None:
    wanted = ("--set", "scaler.tls.requireClientCertificate=true")
    with pytest.raises(KubectlError, match="secretName"):
        render(cluster, *IMAGES, *wanted)
    documents = render(cluster, *IMAGES, *wanted, "--set", "scaler.tls.secretName=certificate")
    (operator,) = [
        item for item in documents if (item["kind"], item["metadata"]["name"]) == ("Deployment", "release-operator")
    ]
    pod = operator["spec"]["template"]["spec"]
    assert {"name": "scaler-tls", "secret": {"secretName": "certificate"}} in pod["volumes"]
    told = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert told["OPENMODEL_SCALER_REQUIRES_CLIENT_CERTIFICATE"] == "true"


def test_whoever_narrows_who_may_ask_lets_helms_test_in(cluster: Kubectl) -> None:
    keda = [{"namespaceSelector": {"matchLabels": {"name": "keda"}}}]
    narrowed = json.dumps({"scalerFrom": keda, "metricsFrom": keda})
    documents = render(cluster, *IMAGES, "--set-json", f"networkPolicy={narrowed}")
    (check,) = [item for item in documents if item["kind"] == "Pod"]
    for policy in (item for item in documents if item["kind"] == "NetworkPolicy"):
        narrow = [rule["from"] for rule in policy["spec"]["ingress"] if keda[0] in rule.get("from", [])]
        assert narrow
        for peers in narrow:
            labels = peers[-1]["podSelector"]["matchLabels"]
            assert labels.items() <= check["metadata"]["labels"].items()
