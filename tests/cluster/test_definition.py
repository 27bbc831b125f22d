"""What the API server itself accepts, refuses and keeps of an OpenModel."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl import Kubectl, KubectlError

pytestmark = pytest.mark.cluster
OCI = "oci://registry.example/models/m:1"


def a_model(namespace: str, name: str = "m", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "openmodel.dev/v1alpha1",
        "kind": "OpenModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"source": OCI}, **spec},
    }


def test_a_small_manifest_is_enough(api: Kubectl, namespace: str) -> None:
    api.apply(a_model(namespace))
    stored = api.get("om", "m", namespace)
    assert stored is not None
    assert stored["spec"] == {"model": {"source": OCI}, "replicas": 1}


def test_every_field_of_the_design_is_accepted(api: Kubectl, namespace: str) -> None:
    spec = {
        "model": {
            "source": "hf://mistralai/Mixtral-8x7B-Instruct-v0.1",
            "revision": "41bd4c9e7e4f",
            "digest": "sha256:" + "0" * 64,
            "license": "Apache-2.0",
            "secretRef": {"name": "hf-token", "key": "token"},
            "endpoint": "https://mirror.example",
            "cache": {"persistentVolumeClaim": "models"},
        },
        "engine": {
            "dtype": "bfloat16",
            "quantization": "auto",
            "maxModelLen": 32768,
            "maxNumSeqs": 256,
            "maxNumBatchedTokens": 8192,
            "memoryUtilization": 0.9,
            "prefixCaching": True,
        },
        "parallelism": {"expert": 8, "ranksPerPod": 8, "tensor": 1, "redundantExperts": 0},
        "accelerator": {"resourceName": "nvidia.com/gpu", "memory": "80Gi"},
        "resources": {"requests": {"cpu": 8, "memory": "64Gi"}},
        "replicas": 1,
        "autoscaling": {
            "minReplicas": 0,
            "maxReplicas": 8,
            "targets": {"waitingTokensPerRank": 4096, "kvCacheUtilization": 0.8, "timeToFirstTokenSeconds": 2},
            "idleSeconds": 600,
        },
        "rollout": {
            "strategy": "Auto",
            "verify": {"configMap": "golden-prompts", "mode": "Exact"},
            "paused": False,
            "drainSeconds": 120,
        },
        "suspend": False,
        "access": {
            "tls": {"secretName": "tls"},
            "authentication": "ServiceAccountToken",
            "router": "WhenCold",
            "tokensPerMinute": 100000,
            "parentRefs": [{"name": "gateway"}],
        },
        "telemetry": {"otlpEndpoint": "http://otel-collector:4317", "sampleRatio": 0.1, "captureContent": False},
        "podTemplate": {"spec": {"priorityClassName": "high"}},
    }
    api.apply({**a_model(namespace), "spec": spec})
    stored = api.get("om", "m", namespace)
    assert stored is not None
    assert stored["spec"] == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"replicas": 1001}, "spec.replicas"),
        ({"engine": {"dtype": "int4"}}, "spec.engine.dtype"),
        ({"engine": {"memoryUtilization": 1.5}}, "spec.engine.memoryUtilization"),
        ({"engine": {"maxModelLen": 0}}, "spec.engine.maxModelLen"),
        ({"engine": {"maxNumSeqs": 512, "maxNumBatchedTokens": 100}}, "maxNumBatchedTokens must be at least"),
        ({"parallelism": {"expert": 2, "tensor": 2}}, "together are not supported"),
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "minReplicas must be at most"),
        ({"model": {"source": "ftp://x/y"}}, "spec.model.source"),
        ({"model": {"source": "oci://r.example/m:1", "revision": "main"}}, "is the image digest"),
        ({"model": {"source": "oci://r.example/m@sha256:1", "revision": "sha256:" + "0" * 64}}, "leave model.revision"),
        ({"model": {"source": "pvc://claim", "revision": "x"}}, "no meaning for a pvc://"),
        ({"model": {"source": "pvc://claim//x"}}, "pvc://CLAIM"),
        ({"model": {"source": OCI, "endpoint": "https://m.example"}}, "belong to hf://"),
        ({"model": {"source": OCI, "digest": "sha256:1"}}, "spec.model.digest"),
        ({"model": {}}, "source"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(
    api: Kubectl, namespace: str, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(KubectlError) as refused:
        api.apply(a_model(namespace, **change))
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["a" * 41, "1st", "a.b"])
def test_names_that_can_not_be_a_service_are_refused(api: Kubectl, namespace: str, name: str) -> None:
    with pytest.raises(KubectlError, match="at most 40 characters"):
        api.apply(a_model(namespace, name))


def test_scale_works_beside_server_side_apply_from_git(api: Kubectl, namespace: str) -> None:
    """`kubectl scale` owns the count; a manifest without `replicas`, applied again, does not take it back."""
    manifest = api(
        "apply", "--dry-run=client", "-o", "json", "-f", "-", stdin=str(a_model(namespace)).replace("'", '"')
    )
    for _ in range(2):
        api("apply", "--server-side", "--field-manager=gitops", "-f", "-", stdin=manifest)
        api("scale", "om/m", "-n", namespace, "--replicas=3")
    stored = api.get("om", "m", namespace)
    assert stored is not None
    assert stored["spec"]["replicas"] == 3
