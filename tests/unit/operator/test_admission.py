from __future__ import annotations

from typing import Any

import pytest

from openmodel_operator.admission import refusals

MODEL = {"source": "oci://r.example/m:1"}


def refused(**fields: Any) -> list[str]:
    return [refusal.path for refusal in refusals({"model": MODEL, **fields})]


def test_a_small_spec_is_admitted() -> None:
    assert refused() == []
    assert refused(engine={"dtype": "float32", "quantization": "none", "prefixCaching": True}, replicas=3) == []
    assert refused(parallelism={"expert": 6, "ranksPerPod": 3, "tensor": 1, "redundantExperts": 2}) == []
    assert refused(parallelism={"tensor": 4, "ranksPerPod": 2}) == []


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"parallelism": {"expert": 9}}, "spec.parallelism.expert"),
        ({"parallelism": {"expert": 4, "ranksPerPod": 3}}, "spec.parallelism.ranksPerPod"),
        ({"parallelism": {"tensor": 9}}, "spec.parallelism.tensor"),
        ({"parallelism": {"tensor": 2, "ranksPerPod": 4}}, "spec.parallelism.ranksPerPod"),
        ({"parallelism": {"tensor": 2, "redundantExperts": 1}}, "spec.parallelism.redundantExperts"),
        ({"accelerator": {"resourceName": "nvidia.com/gpu"}}, "spec.accelerator"),
        ({"engine": {"quantization": "fp8"}}, "spec.engine.quantization"),
        ({"access": {"tls": {"secretName": "x"}}}, "spec.access.tls"),
        (
            {"rollout": {"strategy": "Recreate", "verify": {"configMap": "x", "mode": "Exact"}}},
            "spec.rollout.verify.mode",
        ),
        ({"access": {"router": "Always"}}, "spec.access.router"),
        ({"model": {**MODEL, "digest": "sha256:" + "0" * 64}}, "spec.model.digest"),
        # There is nowhere for it to go.
        ({"telemetry": {"captureContent": True}}, "spec.telemetry.captureContent"),
        ({"model": {"source": "s3://bucket/name"}}, "spec.model.source"),
    ],
)
def test_what_is_not_built_is_refused_by_name(fields: dict[str, Any], path: str) -> None:
    assert refused(**fields) == [path]


def test_all_refused_fields_are_named_at_once() -> None:
    assert len(refused(access={"tokensPerMinute": 2}, accelerator={"resourceName": "x"})) == 2
