"""Nodes that are none, and pods that run nowhere: kwok plays them against a real API server.

A pod of a StatefulSet is ready as soon as it is bound, one of a Job ends at once and tells of the checkpoint what a
real inspection would.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from factories import a_summary
from kubectl import Kubectl, wait_until

ROOT = Path(__file__).resolve().parents[1]
LABEL = "openmodel.dev/played"
TAINT = {"key": LABEL, "value": "true", "effect": "NoSchedule"}
ON_PLAYED_NODES = {"spec": {"nodeSelector": {LABEL: "true"}, "tolerations": [{**TAINT, "operator": "Equal"}]}}
"""`spec.podTemplate` of models whose pods, and the Jobs for them, are to be played."""
_PODS_A_NODE = 1024

_UP = """
phase: Running
conditions:
- type: Ready
  status: "True"
  reason: Played
  message: nothing runs here
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
"""
_ADDRESSED = """
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
startTime: {{ Now | Quote }}
"""
_SERVES = """
phase: Running
conditions:
- {type: ContainersReady, status: "True", lastTransitionTime: {{ Now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ Now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ Now | Quote }}}}
{{ end }}
"""
_ENDED = """
phase: Succeeded
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: false
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{ Now | Quote }}
      finishedAt: {{ Now | Quote }}
      message: MESSAGE
{{ end }}
"""


@contextmanager
def played_nodes(kubectl: Kubectl, count: int, folder: Path) -> Iterator[None]:
    """Nodes that are there while the context lasts; kwok's files and log go to the folder."""
    stages = folder / "stages.yaml"
    stages.write_text(yaml.safe_dump_all(_stages(), default_style='"'))
    build = subprocess.run([ROOT / "hack/kwok/build"], check=True, stdout=subprocess.PIPE, text=True)
    command = [
        f"{build.stdout.strip()}/kwok",
        f"--kubeconfig={kubectl.env['KUBECONFIG']}",
        f"--config={stages}",
        f"--manage-nodes-with-label-selector={LABEL}=true",
        "--node-lease-duration-seconds=40",
        "--cidr=10.96.0.0/14",
    ]
    # The Lease of a node outlives it for a while, and is another kwok's.
    names = [f"played-{uuid.uuid4().hex[:5]}-{index}" for index in range(count)]
    with (folder / "kwok.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as kwok:
        try:
            kubectl.apply(*map(_node, names))
            wait_until("played nodes", lambda: _ready_nodes(kubectl) == count)
            yield
        finally:
            kubectl("delete", "node", "-l", f"{LABEL}=true", "--wait=false")
            kwok.terminate()


def _ready_nodes(kubectl: Kubectl) -> int:
    path = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'
    return kubectl("get", "nodes", "-l", f"{LABEL}=true", "-o", path).split().count("True")


def _node(name: str) -> dict[str, Any]:
    capacity = {"cpu": "4096", "memory": "64Ti", "pods": str(_PODS_A_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "true", "kubernetes.io/hostname": name}},
        "spec": {"taints": [TAINT]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _stages() -> list[dict[str, Any]]:
    alive = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    new = {"key": ".status.podIP", "operator": "DoesNotExist"}
    job = {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]}
    ended = _ENDED.replace("MESSAGE", json.dumps(a_summary()))
    starting = {"key": ".status.phase", "operator": "NotIn", "values": ["Running"]}
    return [
        _stage("up", [starting], {"statusTemplate": _UP}, "Node"),
        _stage("serves", [alive, new, {**job, "operator": "NotIn"}], {"statusTemplate": _SERVES + _ADDRESSED}),
        _stage("ends", [alive, new, job], {"statusTemplate": ended + _ADDRESSED}),
        _stage("goes", [{**alive, "operator": "Exists"}], {"finalizers": {"empty": True}, "delete": True}),
    ]


def _stage(name: str, when: list[dict[str, Any]], then: Mapping[str, Any], kind: str = "Pod") -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": when},
            "next": dict(then),
        },
    }
