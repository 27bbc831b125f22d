"""Whether a child is as it was applied: nothing is written when nothing would change, and everything else is."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from factories import IDENTITY, IMAGE, a_spec
from openmodel_operator.desired.applied import is_applied, stamped
from openmodel_operator.desired.group import group_manifests
from openmodel_operator.desired.network_policy import network_policy
from openmodel_operator.desired.pod import pod_template
from openmodel_operator.desired.service import model_service
from openmodel_operator.plan import plan_group
from openmodel_operator.spec import Manifest
from openmodel_operator.telemetry_spec import TelemetrySpec


def a_stateful_set(**fields: Any) -> Manifest:
    spec = a_spec(**fields)
    return stamped(group_manifests(IDENTITY, pod_template(IDENTITY, spec, IMAGE), "r1", 0, plan_group(spec))[-1])


def live(manifest: Manifest) -> Manifest:
    """As an API server shows it: with what it adds, in its own words."""
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"uid": "uid-9", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    found["status"] = {}
    if found["kind"] == "StatefulSet":
        found["spec"]["revisionHistoryLimit"] = 10
        (container,) = found["spec"]["template"]["spec"]["containers"]
        container["terminationMessagePath"] = "/dev/termination-log"
        for port in container["ports"]:
            port["protocol"] = "TCP"
    return found


def test_what_the_api_server_adds_does_not_count() -> None:
    for manifest in (
        a_stateful_set(),
        stamped(network_policy(IDENTITY, TelemetrySpec())),
        stamped(model_service(IDENTITY, {"a": "b"})),
    ):
        assert is_applied(manifest, live(manifest))


def test_a_quantity_in_other_words_is_the_same() -> None:
    manifest = a_stateful_set(resources={"requests": {"cpu": "0.5", "memory": "1024Mi"}})
    found = live(manifest)
    found["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    assert is_applied(manifest, found)
    found["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "600m"
    assert not is_applied(manifest, found)


def test_a_name_that_reads_like_a_huge_number_is_a_name() -> None:
    before, after = (
        stamped(model_service(IDENTITY, {"a": "none"})),
        stamped(model_service(IDENTITY, {"a": "7e99999999"})),
    )
    assert not is_applied(after, live(before))
    assert is_applied(after, live(after))


def test_empty_values_that_the_api_server_leaves_out_are_no_difference() -> None:
    empty = {"nodeSelector": {}, "tolerations": [], "hostNetwork": False, "hostname": "", "priority": 0}
    manifest = a_stateful_set(podTemplate={"spec": {**empty, "schedulerName": None}})
    found = live(manifest)
    pod = found["spec"]["template"]["spec"]
    for key in empty:
        del pod[key]
    pod["schedulerName"] = "default-scheduler"
    assert is_applied(manifest, found)
    pod["hostNetwork"] = True
    assert not is_applied(manifest, found)


def test_another_owner_beside_ours_is_no_difference() -> None:
    manifest = stamped(network_policy(IDENTITY, TelemetrySpec()))
    found = live(manifest)
    found["metadata"]["ownerReferences"].append({"name": IDENTITY.name, "uid": "of-another-kind"})
    assert is_applied(manifest, found)


@pytest.mark.parametrize("change", ["replicas", "label", "owner", "container", "deleted"])
def test_what_somebody_changed_by_hand_is_seen(change: str) -> None:
    manifest = a_stateful_set()
    found = live(manifest)
    if change == "replicas":
        found["spec"]["replicas"] = 7
    elif change == "label":
        found["metadata"]["labels"]["openmodel.dev/model"] = "other"
    elif change == "owner":
        del found["metadata"]["ownerReferences"]
    elif change == "container":
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    else:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not is_applied(manifest, found)


def test_what_is_taken_out_of_a_manifest_is_seen() -> None:
    before = stamped(model_service(IDENTITY, {"a": "b", "c": "d"}))
    after = stamped(model_service(IDENTITY, {"a": "b"}))
    assert not is_applied(after, live(before))


def test_a_selector_with_a_key_more_is_another() -> None:
    manifest = stamped(model_service(IDENTITY, {"a": "b"}))
    found = live(manifest)
    found["spec"]["selector"]["by"] = "hand"
    assert not is_applied(manifest, found)
