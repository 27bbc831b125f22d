"""Many OpenModels at once, on nodes that are played: how soon all are Ready, and what that and the rest cost.

The control plane is real (etcd, API server, controllers, scheduler); kwok plays the nodes and their pods, and nobody
asks those for tokens. It takes a running local cluster down, and starts its own for each row.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report import plot_lines, write_result
from kubectl import Kubectl, wait_until
from kwok import ON_PLAYED_NODES, played_nodes
from openmodel_operator.kube import Kube

ROOT = Path(__file__).resolve().parents[2]
PIDS = Path("/run/openmodel-cluster/pids")
NAMESPACES = 100
METRICS_PORT, HEALTH_PORT = 18080, 18081
# Of these the nodes that are played have none.
NODE_AGENTS = ("kubelet", "kube-proxy", "kube-router", "containerd", "registry")
REST_SECONDS = 60.0
# Looking costs the API server a share of what it has.
_POLL_SECONDS = 3.0  # per thousand objects
PODS_A_NODE = 500
RATES = {"default": ("20", "30"), "raised": ("500", "1000")}
"""Requests a second of each controller of kube-controller-manager, and burst."""


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 objects only")
    parser.add_argument("--only", help="one row: OBJECTS:RATES")
    arguments = parser.parse_args()
    cases = [(1000, "default"), (1000, "raised"), *([] if arguments.quick else [(10000, "raised")])]
    if arguments.only:
        objects, rates = arguments.only.split(":")
        cases = [(int(objects), rates)]
    rows, curves = [], {}
    for objects, rates in cases:
        row, curve = _measure(objects, rates)
        rows.append(row)
        curves[f"{objects} objects, {rates} controller rates"] = curve
        print(row, flush=True)
    plot_lines("operator", {"OpenModels that are Ready": curves}, "s since the first was created", "Ready", log=False)
    print(write_result("operator", rows))


def _measure(objects: int, rates: str) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    qps, burst = RATES[rates]
    env = {**os.environ, "OPENMODEL_CONTROLLER_QPS": qps, "OPENMODEL_CONTROLLER_BURST": burst}
    subprocess.run([ROOT / "hack/cluster/down"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([ROOT / "hack/cluster/up"], check=True, stdout=subprocess.DEVNULL, env=env)
    try:
        kubectl = Kubectl(_environment())
        kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        kubectl.program(str(ROOT / "hack/cluster/stop"), *NODE_AGENTS)
        with tempfile.TemporaryDirectory() as folder, played_nodes(kubectl, -(-objects // PODS_A_NODE), Path(folder)):
            return _with_nodes(kubectl, objects, rates, Path(folder))
    finally:
        subprocess.run([ROOT / "hack/cluster/down"], check=True, stdout=subprocess.DEVNULL)


def _with_nodes(
    kubectl: Kubectl, objects: int, rates: str, folder: Path
) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    command = [sys.executable, str(ROOT / "tests/operator_process.py"), "default", "bench"]
    command += [str(METRICS_PORT), str(HEALTH_PORT)]
    with (
        (folder / "operator.log").open("w") as log,
        subprocess.Popen(command, env=dict(kubectl.env), stdout=log, stderr=log) as operator,
    ):
        try:
            wait_until("the operator leads", lambda: _metric("openmodel_operator_leader", {}) == 1)
            pids = {**_component_pids(), "operator": operator.pid}
            before = {name: _cpu_seconds(pid) for name, pid in pids.items()}
            began = time.monotonic()
            asyncio.run(_create(kubectl, objects))
            created = time.monotonic() - began
            curve = _until_all_ready(kubectl, objects, began)
            cpu = {name: round(_cpu_seconds(pid) - before[name], 1) for name, pid in pids.items()}
            time.sleep(REST_SECONDS / 4)
            writes, reads = _requests(write=True), _requests(write=False)
            cpu_before = _cpu_seconds(operator.pid)
            time.sleep(REST_SECONDS)
            row = {
                "objects": objects,
                "controller_rates": rates,
                "created_s": round(created, 1),
                "all_ready_s": round(curve[-1][0], 1),
                "writes_per_object": round(writes / objects, 2),
                "reads_per_object": round(reads / objects, 2),
                "writes_at_rest": _requests(write=True) - writes,
                "rss_mib": _rss_mib(operator.pid),
                "cores_at_rest": round((_cpu_seconds(operator.pid) - cpu_before) / REST_SECONDS, 3),
                "reconcile_mean_s": _mean_look(),
                "reconcile_errors": _metric("openmodel_operator_reconcile_errors_total", {}),
                "cpu_s_until_ready": cpu,
            }
            return row, curve
        except BaseException:
            sys.stderr.write((folder / "operator.log").read_text()[-4000:])
            raise
        finally:
            operator.terminate()


async def _create(kubectl: Kubectl, objects: int) -> None:
    os.environ["KUBECONFIG"] = kubectl.env["KUBECONFIG"]
    kube = await Kube.connect(lambda method, kind: None)
    in_flight = asyncio.Semaphore(16)

    async def create(index: int) -> None:
        async with in_flight:
            assert await kube.create(_model(f"model-{index}", f"scale-{index % NAMESPACES}"))

    try:
        for index in range(NAMESPACES):
            kubectl("create", "namespace", f"scale-{index}")
        await asyncio.gather(*map(create, range(objects)))
    finally:
        await kube.close()


def _model(name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "openmodel.dev/v1alpha1",
        "kind": "OpenModel",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"source": "oci://registry.example/models/mixtral:1"}, "podTemplate": ON_PLAYED_NODES},
    }


def _until_all_ready(kubectl: Kubectl, objects: int, began: float) -> list[tuple[float, float]]:
    curve: list[tuple[float, float]] = [(0.0, 0.0)]
    while curve[-1][1] < objects:
        time.sleep(_POLL_SECONDS * objects / 1000)
        rows = kubectl("get", "openmodels", "--all-namespaces", "--no-headers", "--chunk-size=0").splitlines()
        curve.append((time.monotonic() - began, float(sum(row.split()[3] == "True" for row in rows))))
        if time.monotonic() - began > 3600:
            raise AssertionError(f"after an hour {curve[-1][1]:.0f} of {objects} were Ready")
    return curve


def _environment() -> dict[str, str]:
    printed = subprocess.run([ROOT / "hack/cluster/env"], check=True, capture_output=True, text=True).stdout
    shell = ["bash", "-c", f"{printed}\nenv -0"]
    variables = subprocess.run(shell, check=True, capture_output=True, text=True).stdout.split("\0")
    return dict(line.split("=", 1) for line in variables if "=" in line)


def _component_pids() -> dict[str, int]:
    pids = {path.name: int(path.read_text().split()[0]) for path in PIDS.iterdir() if path.name not in NODE_AGENTS}
    (kwok,) = subprocess.run(["pgrep", "-f", "stages.yaml"], check=True, capture_output=True, text=True).stdout.split()
    return {**pids, "kwok": int(kwok)}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def _samples(name: str) -> list[tuple[dict[str, str], float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
    return [(dict(re.findall(r'(\w+)="([^"]*)"', line)), float(line.rpartition(" ")[2])) for line in found]


def _metric(name: str, labels: Mapping[str, str]) -> float:
    try:
        return sum(value for given, value in _samples(name) if labels.items() <= given.items())
    except OSError:
        return 0.0


def _requests(*, write: bool) -> int:
    """Of the operator to the API server, but for its Lease."""
    samples = _samples("openmodel_operator_api_requests_total")
    counted = [
        value
        for labels, value in samples
        if labels["k8s_object_kind"] != "Lease" and (labels["http_request_method"] != "GET") == write
    ]
    return int(sum(counted))


def _mean_look() -> float:
    name = "openmodel_operator_reconcile_duration_seconds"
    return round(_metric(f"{name}_sum", {}) / _metric(f"{name}_count", {}), 4)


if __name__ == "__main__":
    main()
