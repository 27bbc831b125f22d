"""The definition, the operator's parser and the documents say the same."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from openmodel_operator.admission import _LIMITS
from openmodel_operator.reasons import ConditionType, Reason

ROOT = Path(__file__).resolve().parents[2]
CRD = yaml.safe_load((ROOT / "crds/openmodel.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
# Fields that the operator acts on; every other field of the definition must be refused by name.
BUILT = {
    "model.source",
    "model.revision",
    "engine.dtype",
    "engine.maxModelLen",
    "engine.maxNumSeqs",
    "engine.maxNumBatchedTokens",
    "engine.memoryUtilization",
    "engine.prefixCaching",
    "parallelism.ranksPerPod",
    "parallelism.redundantExperts",
    "model.secretRef.name",
    "model.secretRef.key",
    "model.endpoint",
    "model.digest",
    "model.license",
    "model.cache.persistentVolumeClaim",
    "resources.requests",
    "resources.limits",
    "replicas",
    "telemetry.captureContent",
    "telemetry.otlpEndpoint",
    "telemetry.sampleRatio",
    "autoscaling.minReplicas",
    "autoscaling.maxReplicas",
    "autoscaling.idleSeconds",
    "autoscaling.targets.waitingTokensPerRank",
    "autoscaling.targets.kvCacheUtilization",
    "autoscaling.targets.timeToFirstTokenSeconds",
    "rollout.drainSeconds",
    "rollout.strategy",
    "rollout.paused",
    "rollout.verify.configMap",
    "rollout.verify.mode",
    "suspend",
    "podTemplate",
}


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield from leaves(field, below) if "properties" in field else [below]


def test_no_field_is_ignored() -> None:
    limited = tuple(limit.path for limit in _LIMITS)
    for path in leaves(SCHEMA["spec"]):
        refused = any(path == limit or path.startswith(f"{limit}.") for limit in limited)
        assert refused != (path in BUILT), f"spec.{path} must be built or refused by name, and not both"


def test_printer_columns_read_fields_that_exist() -> None:
    for column in CRD["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = re.sub(r"\[.*?\]", "", column["jsonPath"]).strip(".").split(".")
        if path[0] == "metadata" or path[1] == "conditions":
            continue
        field = SCHEMA[path[0]]
        for part in path[1:]:
            field = field["properties"][part]


def test_every_condition_and_reason_is_documented() -> None:
    page = (ROOT / "docs/reference/conditions.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    assert documented == {*map(str, ConditionType), *map(str, Reason)}


def test_the_chart_ships_these_very_files() -> None:
    assert (ROOT / "charts/openmodel/crd-files").resolve() == ROOT / "crds"


def test_examples_name_real_fields() -> None:
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            assert document["apiVersion"] == "openmodel.dev/v1alpha1"
            _check(document["spec"], SCHEMA["spec"], f"{path.name}: spec")


def _check(value: object, schema: dict[str, Any], path: str) -> None:
    if isinstance(value, dict) and "properties" in schema:
        for key, item in value.items():
            assert key in schema["properties"], f"{path}.{key} is no field"
            _check(item, schema["properties"][key], f"{path}.{key}")


def test_the_operator_may_do_what_it_does_and_no_more() -> None:
    """Every kind that kube.py knows stands in the chart's role, and the role names no Secrets and no wildcard."""
    from openmodel_operator.kube import PLURALS

    rules = (ROOT / "charts/openmodel/templates/operator/rbac.yaml").read_text()
    roles = [document for document in rules.split("---") if "Role\n" in document and "-operator" in document]
    operator_role = "".join(roles)
    for plural in PLURALS.values():
        assert plural in operator_role
    assert "secrets" not in operator_role.lower().replace("it reads no secrets", "")
    assert "*" not in operator_role


def test_shell_scripts_parse() -> None:
    for path in (ROOT / "hack").rglob("*"):
        if path.is_file() and path.read_bytes()[:20].startswith(b"#!/usr/bin/env bash"):
            subprocess.run(["bash", "-n", str(path)], check=True)
