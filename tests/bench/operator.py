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
from pathlib import Path
from typing import Any

from bench.report import plot_lines, write_result
from kubectl import Kubectl, local_cluster, wait_until
from kwok import played_nodes
from openmodel_operator.kube import Kube
from operators import OperatorProcess, Operators, a_played_model

ROOT = Path(__file__).resolve().parents[2]
PIDS = Path("/run/openmodel-cluster/pids")
NAMESPACES = 100
# Of these the nodes that are played have none.
NODE_AGENTS = ("kubelet", "kube-proxy", "kube-router", "containerd", "registry")
REST_SECONDS = 60.0
# Looking costs the API server a share of what it has.
POLL_SECONDS_A_THOUSAND = 3.0
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
        kubectl = local_cluster()
        kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        kubectl.program(str(ROOT / "hack/cluster/stop"), *NODE_AGENTS)
        with tempfile.TemporaryDirectory() as folder, played_nodes(kubectl, -(-objects // PODS_A_NODE), Path(folder)):
            return _with_nodes(kubectl, objects, rates, Path(folder))
    finally:
        subprocess.run([ROOT / "hack/cluster/down"], check=True, stdout=subprocess.DEVNULL)


def _with_nodes(
    kubectl: Kubectl, objects: int, rates: str, folder: Path
) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    operators = Operators(kubectl, "default", folder)
    operator = operators.start("bench")
    try:
        wait_until("the operator leads", lambda: operator.leads)
        pids = {**_component_pids(), "operator": operator.process.pid}
        before = {name: _cpu_seconds(pid) for name, pid in pids.items()}
        began = time.monotonic()
        asyncio.run(_create(kubectl, objects))
        created = time.monotonic() - began
        curve = _until_all_ready(kubectl, objects, began)
        cpu = {name: round(_cpu_seconds(pid) - before[name], 1) for name, pid in pids.items()}
        time.sleep(REST_SECONDS / 4)
        return _at_rest(operator, objects) | {
            "objects": objects,
            "controller_rates": rates,
            "created_s": round(created, 1),
            "all_ready_s": round(curve[-1][0], 1),
            "cpu_s_until_ready": cpu,
        }, curve
    except BaseException:
        sys.stderr.write(operator.log.read_text()[-4000:])
        raise
    finally:
        operators.stop()


def _at_rest(operator: OperatorProcess, objects: int) -> dict[str, Any]:
    pid, look = operator.process.pid, "openmodel_operator_reconcile_duration_seconds"
    writes, reads, cpu_before = operator.requests(write=True), operator.requests(write=False), _cpu_seconds(pid)
    time.sleep(REST_SECONDS)
    return {
        "writes_per_object": round(writes / objects, 2),
        "reads_per_object": round(reads / objects, 2),
        "writes_at_rest": operator.requests(write=True) - writes,
        "rss_mib": _rss_mib(pid),
        "cores_at_rest": round((_cpu_seconds(pid) - cpu_before) / REST_SECONDS, 3),
        "reconcile_mean_s": round(operator.metric(f"{look}_sum") / operator.metric(f"{look}_count"), 4),
        "reconcile_errors": operator.metric("openmodel_operator_reconcile_errors_total"),
    }


async def _create(kubectl: Kubectl, objects: int) -> None:
    os.environ["KUBECONFIG"] = kubectl.env["KUBECONFIG"]
    kube = await Kube.connect(lambda method, kind: None)
    in_flight = asyncio.Semaphore(16)

    async def create(index: int) -> None:
        async with in_flight:
            assert await kube.create(a_played_model(f"model-{index}", f"scale-{index % NAMESPACES}"))

    try:
        for index in range(NAMESPACES):
            kubectl("create", "namespace", f"scale-{index}")
        await asyncio.gather(*map(create, range(objects)))
    finally:
        await kube.close()


def _until_all_ready(kubectl: Kubectl, objects: int, began: float) -> list[tuple[float, float]]:
    curve: list[tuple[float, float]] = [(0.0, 0.0)]
    while curve[-1][1] < objects:
        time.sleep(POLL_SECONDS_A_THOUSAND * objects / 1000)
        rows = kubectl("get", "openmodels", "--all-namespaces", "--no-headers", "--chunk-size=0").splitlines()
        curve.append((time.monotonic() - began, float(sum(row.split()[3] == "True" for row in rows))))
        if time.monotonic() - began > 3600:
            raise AssertionError(f"after an hour {curve[-1][1]:.0f} of {objects} were Ready")
    return curve


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


if __name__ == "__main__":
    main()
