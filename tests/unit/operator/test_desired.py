from __future__ import annotations

import pytest

from factories import IDENTITY, IMAGE, a_spec
from openmodel_operator import names
from openmodel_operator.desired.identity import content_hash
from openmodel_operator.desired.merge import merge
from openmodel_operator.desired.pod import pod_template, with_revision
from openmodel_operator.desired.source import model_mount, model_volume
from openmodel_telemetry.names import CAPTURE_VARIABLE


def test_merge_goes_by_key_and_by_name() -> None:
    base = {"a": 1, "list": [{"name": "x", "v": 1, "w": 2}, {"name": "y"}], "plain": [1, 2]}
    over = {"b": 2, "list": [{"name": "x", "v": 9}, {"name": "z"}], "plain": [3]}
    assert merge(base, over) == {
        "a": 1,
        "b": 2,
        "list": [{"name": "x", "v": 9, "w": 2}, {"name": "y"}, {"name": "z"}],
        "plain": [3],
    }
    assert base["plain"] == [1, 2]


@pytest.mark.parametrize(
    ("model", "volume"),
    [
        ({"source": "oci://r.example/m:1"}, {"image": {"reference": "r.example/m:1"}}),
        (
            {"source": "oci://r.example:5000/m:1", "revision": "sha256:" + "a" * 64},
            {"image": {"reference": "r.example:5000/m@sha256:" + "a" * 64}},
        ),
        ({"source": "pvc://claim/some/path"}, {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}}),
    ],
)
def test_the_checkpoint_is_mounted(model: dict[str, str], volume: dict[str, object]) -> None:
    assert model_volume(a_spec(model=model)) == {"name": "model", **volume}


def test_a_claims_path_is_a_sub_path() -> None:
    assert model_mount(a_spec(model={"source": "pvc://claim/some/path"}))["subPath"] == "some/path"
    assert "subPath" not in model_mount(a_spec(model={"source": "pvc://claim"}))


def test_the_revision_changes_with_the_pods_and_with_nothing_else() -> None:
    def revision(**fields: object) -> str:
        return content_hash(pod_template(IDENTITY, a_spec(**fields), IMAGE))

    assert revision() == revision(replicas=5) == revision(suspend=True)
    different = [
        revision(),
        revision(engine={"dtype": "float32"}),
        revision(resources={"requests": {"cpu": 4}}),
        revision(model={"source": "oci://r.example/other:1"}),
        revision(podTemplate={"spec": {"priorityClassName": "high"}}),
        revision(rollout={"drainSeconds": 5}),
    ]
    assert len(set(different)) == len(different)


def test_pods_meet_restricted_pod_security() -> None:
    pod = pod_template(IDENTITY, a_spec(), IMAGE)["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_pod_template_is_merged_over_the_generated_one() -> None:
    over = {
        "metadata": {"labels": {"team": "a"}},
        "spec": {
            "containers": [{"name": "runtime", "env": [{"name": "X", "value": "1"}]}],
            "nodeSelector": {"disk": "fast"},
        },
    }
    template = with_revision(pod_template(IDENTITY, a_spec(podTemplate=over), IMAGE), "mixtral", "abc", 3)
    labels = template["metadata"]["labels"]
    assert (labels["team"], labels[names.REVISION_LABEL], labels[names.GROUP_INDEX_LABEL]) == ("a", "abc", "3")
    container = template["spec"]["containers"][0]
    assert {item["name"] for item in container["env"]} == {"HOME", "X", CAPTURE_VARIABLE}
    assert container["args"][-1] == "--version=abc"
    assert template["spec"]["nodeSelector"] == {"disk": "fast"}


def test_what_was_verified_is_not_for_the_users_template_to_say() -> None:
    pinned = {"model": {"source": "pvc://models/tiny", "digest": "sha256:1"}}
    for own in (None, {"openmodel.dev/digest": "sha256:2"}, {"team": "a"}):
        spec = a_spec(**pinned, podTemplate={"metadata": {"annotations": own}})
        told = pod_template(IDENTITY, spec, IMAGE)["metadata"]["annotations"]
        assert told["openmodel.dev/digest"] == "sha256:1"
