from __future__ import annotations

import re

import pytest

from factories import a_spec
from openmodel_operator.effective import effective_values
from openmodel_operator.plan import plan_group
from openmodel_operator.spec import SpecError, parse_quantity, parse_spec


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), (2, 2), ("500m", 0.5), ("64Gi", 64 * 2**30), ("1.5k", 1500), ("2M", 2e6), ("3Ti", 3 * 2**40)],
)
def test_quantities(text: str | int, value: float) -> None:
    assert float(parse_quantity("x", text)) == value


@pytest.mark.parametrize("text", ["", "many", "1Zi", "Gi"])
def test_what_is_no_quantity_is_named(text: str) -> None:
    with pytest.raises(SpecError, match=r"spec\.x"):
        parse_quantity("spec.x", text)


@pytest.mark.parametrize(
    ("resources", "threads"),
    [
        ({}, 1),
        ({"requests": {"cpu": "500m"}}, 1),
        ({"requests": {"cpu": 8}}, 8),
        ({"limits": {"cpu": "2500m"}}, 2),
        ({"requests": {"cpu": "4"}, "limits": {"cpu": "8"}}, 4),
    ],
)
def test_a_rank_has_its_share_of_the_cpu_request(resources: dict[str, object], threads: int) -> None:
    assert a_spec(resources=resources).threads == threads


def test_ranks_share_the_cpu_request() -> None:
    parallelism = {"expert": 6, "ranksPerPod": 3, "redundantExperts": 1}
    spec = a_spec(resources={"requests": {"cpu": 7}}, parallelism=parallelism)
    assert (spec.ranks, spec.redundant_experts, spec.threads) == (6, 1, 2)
    assert effective_values(spec)["parallelism"] == {
        "expert": 6,
        "ranksPerPod": 3,
        "tensor": 1,
        "redundantExperts": 1,
    }
    plan = plan_group(spec)
    assert (plan.ranks, plan.pods, plan.redundant_experts) == (6, 2, 1)
    assert plan.reason.startswith("6 ranks in 2 pods share the experts, on CPU with 2 threads each")


def test_effective_values_name_every_default() -> None:
    values = effective_values(a_spec())
    assert values["engine"] == {
        "dtype": "auto",
        "quantization": "auto",
        "maxModelLen": "checkpoint",
        "maxNumSeqs": 256,
        "maxNumBatchedTokens": 8192,
        "memoryUtilization": 0.9,
        "prefixCaching": True,
    }
    assert "autoscaling" not in values
    assert effective_values(a_spec(engine={"maxModelLen": 5}))["engine"]["maxModelLen"] == 5
    scaled = effective_values(a_spec(autoscaling={"maxReplicas": 3}))
    assert scaled["autoscaling"] == {
        "minReplicas": 1,
        "maxReplicas": 3,
        "targets": {"waitingTokensPerRank": 4096, "kvCacheUtilization": 0.8},
        "idleSeconds": 600,
    }
    assert scaled["access"]["router"] == "WhenCold"


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ({"spec": None}, "spec.podTemplate.spec"),
        ({"metadata": []}, "spec.podTemplate.metadata"),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.podTemplate.spec.containers"),
        ({"spec": {"volumes": {"name": "x"}}}, "spec.podTemplate.spec.volumes"),
        ({"spec": {"containers": [{"name": "runtime", "args": []}]}}, "args is generated"),
    ],
)
def test_a_pod_template_that_can_not_be_merged_is_refused(template: dict[str, object], named: str) -> None:
    with pytest.raises(SpecError, match=re.escape(named)):
        a_spec(podTemplate=template)


def test_ranks_that_share_matrices() -> None:
    spec = a_spec(parallelism={"tensor": 4, "ranksPerPod": 2})
    assert (spec.ranks, spec.tensor, spec.grouped) == (4, True, True)
    assert effective_values(spec)["parallelism"] == {
        "expert": 1,
        "ranksPerPod": 2,
        "tensor": 4,
        "redundantExperts": 0,
    }
    assert plan_group(spec).reason.startswith("4 ranks in 2 pods share each matrix, on CPU with 1 thread each")


@pytest.mark.parametrize("expression", ["MIT AND Apache-2.0", "(MIT)", "MIT OR ", "", "GPL-2.0-only WITH x"])
def test_a_licence_that_can_not_be_compared_is_refused(expression: str) -> None:
    with pytest.raises(SpecError, match=r"spec\.model\.license"):
        parse_spec({"model": {"source": "oci://r/m:1", "license": expression}})


def test_what_captures_content_is_set_where_the_status_tells_of_it() -> None:
    variable = {"name": "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "value": "SPAN_ONLY"}
    template = {"spec": {"containers": [{"name": "runtime", "env": [variable]}]}}
    with pytest.raises(SpecError, match=r"spec\.telemetry\.captureContent"):
        parse_spec({"model": {"source": "oci://registry.example/model:1"}, "podTemplate": template})


@pytest.mark.parametrize("env", [{"A": "b"}, ["X"], "x", 5])
def test_an_environment_that_is_no_list_of_objects_is_named(env: object) -> None:
    template = {"spec": {"containers": [{"name": "runtime", "env": env}]}}
    with pytest.raises(SpecError, match=r"containers\[runtime\]\.env must be a list of objects"):
        parse_spec({"model": {"source": "oci://registry.example/model:1"}, "podTemplate": template})
