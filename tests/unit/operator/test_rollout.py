from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from factories import IDENTITY, IMAGE, a_pod, a_spec, children_of, observed_after
from openmodel_operator import names
from openmodel_operator.observed import Observed
from openmodel_operator.plan import plan_group
from openmodel_operator.rollout import ActionPlan, plan_actions
from openmodel_operator.spec import OpenModelSpec


def step(spec: OpenModelSpec, observed: Observed) -> ActionPlan:
    return plan_actions(IDENTITY, spec, plan_group(spec), observed, IMAGE)


def serving(spec: OpenModelSpec) -> tuple[ActionPlan, Observed]:
    """The settled state of a spec."""
    actions = step(spec, Observed())
    pods = [a_pod(actions.revision, group=group) for group in range(actions.groups)]
    actions = step(spec, observed_after(actions, pods=pods))
    assert actions.serving == actions.revision
    return actions, observed_after(actions, pods=pods)


def kinds(actions: ActionPlan) -> list[str]:
    return [manifest["kind"] for manifest in actions.apply]


def deleted(actions: ActionPlan) -> list[str]:
    return sorted(f"{child['kind']}/{child['metadata']['name']}" for child in actions.delete)


def test_a_new_model_starts_and_is_not_reachable_before_its_proof() -> None:
    actions = step(a_spec(), Observed())
    assert kinds(actions) == ["Service", "NetworkPolicy", "StatefulSet"]
    assert actions.serving == names.NO_REVISION
    not_ready = observed_after(actions, pods=[a_pod(actions.revision, ready=False)])
    unproven = observed_after(actions, pods=[a_pod(actions.revision)], proven=False)
    for observed in (not_ready, unproven):
        assert step(a_spec(), observed).serving == names.NO_REVISION
    proven = observed_after(actions, pods=[a_pod(actions.revision)])
    assert step(a_spec(), proven).serving == actions.revision


def test_a_settled_model_is_left_as_it_is() -> None:
    actions, observed = serving(a_spec(replicas=2))
    again = step(a_spec(replicas=2), observed)
    assert (again.apply, again.delete) == (actions.apply, [])


def test_scaling_adds_and_removes_groups_and_no_pod_that_stays() -> None:
    before, observed = serving(a_spec(replicas=2))
    more = step(a_spec(replicas=3), observed)
    assert more.revision == before.revision
    assert kinds(more).count("StatefulSet") == 3
    fewer = step(a_spec(replicas=1), observed)
    name = f"mixtral-{before.revision}-1"
    assert deleted(fewer) == [f"StatefulSet/{name}"]
    assert fewer.serving == before.revision


def test_a_change_keeps_the_old_revision_until_the_new_one_is_proven() -> None:
    old, observed = serving(a_spec(replicas=2))
    new_spec = a_spec(replicas=2, engine={"dtype": "float32"})
    actions = step(new_spec, observed)
    assert actions.serving == old.revision != actions.revision
    assert actions.delete == []
    old_pods = list(observed.pods)
    one = observed_after(actions, pods=[*old_pods, a_pod(actions.revision)], kept=observed)
    assert step(new_spec, one).serving == old.revision
    both = observed_after(
        actions, pods=[*old_pods, *(a_pod(actions.revision, group=group) for group in range(2))], kept=observed
    )
    moved = step(new_spec, both)
    assert moved.serving == actions.revision
    assert len(moved.delete) == 2
    assert all(old.revision in name for name in deleted(moved))


@pytest.mark.parametrize("selector", [None, {}, {"app": "by hand"}], ids=["no Service", "no selector", "another"])
def test_what_serves_goes_on_when_its_service_is_taken_away_in_a_rollout(selector: dict[str, str] | None) -> None:
    old, observed = serving(a_spec())
    new_spec = a_spec(engine={"dtype": "float32"})
    half = observed_after(step(new_spec, observed), pods=[*observed.pods], kept=observed)
    assert half.service is not None
    spec = {**half.service["spec"], "selector": selector}
    service = None if selector is None else {**half.service, "spec": spec}
    taken = replace(half, service=service, told_revision=old.revision)
    for wanted in (new_spec, replace(new_spec, paused=True)):
        actions = step(wanted, taken)
        assert actions.serving == old.revision != actions.revision
        assert actions.delete == []
        for applied in (actions.apply, actions.upkeep or actions.apply):
            (service,) = [item for item in applied if item["kind"] == "Service"]
            assert service["spec"]["selector"][names.REVISION_LABEL] == old.revision
    # What was never told to serve does not begin to for it.
    assert step(new_spec, replace(taken, told_revision=names.NO_REVISION)).serving == names.NO_REVISION


def test_a_change_back_takes_the_half_made_revision_away() -> None:
    old, observed = serving(a_spec())
    actions = step(a_spec(engine={"dtype": "float32"}), observed)
    halfway = observed_after(actions, pods=observed.pods, kept=observed)
    back = step(a_spec(), halfway)
    assert back.serving == back.revision == old.revision
    assert all(actions.revision in name for name in deleted(back))
    assert len(back.delete) == 1


def test_zero_replicas_are_proven_by_one_start() -> None:
    spec = a_spec(replicas=0)
    actions = step(spec, Observed())
    assert actions.groups == 1
    proven = step(spec, observed_after(actions, pods=[a_pod(actions.revision)]))
    assert proven.serving == actions.revision
    after = step(spec, observed_after(proven, pods=[a_pod(actions.revision)]))
    assert (after.groups, len(after.delete)) == (0, 1)


def test_suspend_takes_everything_down() -> None:
    _, observed = serving(a_spec())
    actions = step(a_spec(suspend=True), observed)
    assert actions.groups == 0
    assert len(actions.delete) == 1
    changed = step(a_spec(suspend=True, engine={"dtype": "float32"}), observed)
    assert len(changed.delete) == 1


def test_a_change_of_the_groups_size_adds_pods_to_the_same_groups() -> None:
    before, observed = serving(a_spec(parallelism={"expert": 2}))
    assert kinds(before) == ["Service", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Service", "StatefulSet"]
    for parallelism, pods in (({"expert": 4}, 4), ({"expert": 3, "redundantExperts": 2}, 3)):
        after = step(a_spec(parallelism=parallelism), observed)
        assert (after.revision, after.serving, after.delete) == (before.revision, before.revision, [])
        config_map, _, stateful_set = after.apply[3:]
        told = json.loads(config_map["data"][names.GROUP_SETTINGS])
        assert told == {"expert": pods, "redundantExperts": parallelism.get("redundantExperts", 0)}
        assert stateful_set["spec"]["replicas"] == pods
        assert stateful_set["spec"]["template"] == before.apply[-1]["spec"]["template"]
    other = step(a_spec(parallelism={"expert": 2, "ranksPerPod": 2}), observed)
    assert other.revision != before.revision


def test_a_groups_settings_go_with_it() -> None:
    _, observed = serving(a_spec(parallelism={"expert": 2}))
    actions = step(a_spec(parallelism={"expert": 2}, suspend=True), observed)
    assert {child["kind"] for child in actions.delete} == {"StatefulSet", "Service", "ConfigMap"}


def test_the_first_pod_of_a_group_that_shares_matrices_takes_the_calls() -> None:
    spec = a_spec(parallelism={"tensor": 2})
    before, observed = serving(spec)
    selector = service_of(before)["spec"]["selector"]
    assert selector["apps.kubernetes.io/pod-index"] == "0"
    (group,) = children_of(before, "StatefulSet")
    (container,) = group["spec"]["template"]["spec"]["containers"]
    assert group["spec"]["replicas"] == 2
    assert "--tensor-parallel-size=2" in container["args"]
    # While another revision starts, callers still must not reach the second pod of this one.
    other = step(a_spec(), observed)
    assert other.serving == before.revision
    assert service_of(other)["spec"]["selector"] == selector


def service_of(actions: ActionPlan) -> dict[str, Any]:
    found: list[dict[str, Any]] = [
        item for item in actions.apply if (item["kind"], item["metadata"]["name"]) == ("Service", "mixtral")
    ]
    return found[0]


def test_evictions_go_by_the_revision_that_serves() -> None:
    before, observed = serving(a_spec())
    for actions in (before, step(a_spec(engine={"dtype": "float32"}), observed)):
        (budget,) = [item for item in actions.apply if item["kind"] == "PodDisruptionBudget"]
        assert budget["spec"]["selector"]["matchLabels"][names.REVISION_LABEL] == before.revision
        assert budget["spec"]["maxUnavailable"] == 1


def test_old_groups_go_first_where_that_is_asked_for() -> None:
    old, observed = serving(a_spec(replicas=2))
    spec = a_spec(replicas=2, engine={"dtype": "float32"}, rollout={"strategy": "Recreate"})
    actions = step(spec, observed)
    assert all(old.revision in name for name in deleted(actions))
    assert len(actions.delete) == 2
    assert kinds(actions).count("StatefulSet") == 2
    assert actions.serving == old.revision, "the Service moves when the new ones have answered"
    pods = [a_pod(actions.revision, group=group) for group in range(2)]
    assert step(spec, observed_after(actions, pods=pods)).serving == actions.revision


def test_a_rollout_that_is_paused_stands_still_wherever_it_is() -> None:
    old, observed = serving(a_spec())
    changed: dict[str, Any] = {"engine": {"dtype": "float32"}}
    paused = a_spec(**changed, rollout={"paused": True})
    before = step(paused, observed)
    assert (before.serving, before.delete) == (old.revision, [])
    assert "StatefulSet" not in kinds(before)
    half = step(a_spec(**changed), observed)
    proven = observed_after(half, pods=[*observed.pods, a_pod(half.revision)], kept=observed)
    standing = step(paused, proven)
    assert (standing.serving, standing.delete) == (old.revision, [])
    assert "StatefulSet" not in kinds(standing)
    (service,) = [item for item in standing.apply if item["kind"] == "Service"]
    assert service["spec"]["selector"][names.REVISION_LABEL] == old.revision
    assert step(a_spec(**changed), proven).serving == half.revision
    assert step(a_spec(rollout={"paused": True}), proven).serving == old.revision, "back is never paused"


def test_a_new_model_that_is_paused_starts_nothing() -> None:
    actions = step(a_spec(rollout={"paused": True}), Observed())
    assert "StatefulSet" not in kinds(actions)
