"""From a call to a model at zero to its first token, beside the same pod as a plain Deployment that is scaled to one.

In the local cluster, with the operator installed and the test models in its registry (`make demo`). Each round does
both, one after the other; the page cache is warm from the first. What is ours is what the call takes longer than the
plain pod, whose client asks again and again until it answers.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import yaml

from bench.report import plot_lines, write_result
from e2e.callers import Caller
from kubectl import Kubectl, local_cluster, wait_until

ROOT = Path(__file__).resolve().parents[2]
MODEL = "smollm2"
PLAIN = "plain"
ROUNDS, QUICK_ROUNDS = 10, 3
POLL_SECONDS = 0.02


def main() -> None:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    rounds = QUICK_ROUNDS if parser.parse_args().quick else ROUNDS
    kubectl = local_cluster()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", namespace)
    try:
        row = asyncio.run(_measure(kubectl, namespace, rounds))
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")
    print({key: value for key, value in row.items() if not key.endswith("_rounds")})
    lines = {name: list(enumerate(row[f"{name}_rounds"])) for name in ("first_token_s", "plain_s")}
    plot_lines("coldstart", {"first token of a call to a model at zero": lines}, "round", "s", log=False)
    print(write_result("coldstart", [row]))


async def _measure(kubectl: Kubectl, namespace: str, rounds: int) -> dict[str, Any]:
    manifest = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    manifest["spec"]["autoscaling"] = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 1}
    kubectl.apply(manifest)
    template = wait_until("the pod", lambda: _template(kubectl, namespace))
    kubectl.apply(*_plain(namespace, template))
    await asyncio.to_thread(wait_until, "the model sleeps", lambda: not _pods(kubectl, namespace, MODEL))
    ours, plain = Caller.of(kubectl, namespace, MODEL), Caller.of(kubectl, namespace, PLAIN)
    cold, direct, phases = [], [], []
    for _ in range(rounds + 1):
        began = time.monotonic()
        await ours.complete(max_tokens=1)
        cold.append(time.monotonic() - began)
        found = kubectl.get("openmodel", MODEL, namespace)
        assert found is not None
        phases.append(found["status"].get("coldStart", {}))
        await _gone(kubectl, namespace, MODEL)
        began = time.monotonic()
        kubectl("scale", "deployment", PLAIN, "-n", namespace, "--replicas=1")
        await _until_answered(Caller(plain.address, MODEL))
        direct.append(time.monotonic() - began)
        kubectl("scale", "deployment", PLAIN, "-n", namespace, "--replicas=0")
        await _gone(kubectl, namespace, PLAIN)
    # The first of each brings what was not in the page cache.
    cold, direct = cold[1:], direct[1:]
    first, other = statistics.median(cold), statistics.median(direct)
    return {
        "rounds": rounds,
        "first_token_s": round(first, 2),
        "first_token_max_s": round(max(cold), 2),
        "plain_deployment_s": round(other, 2),
        "ours_s": round(first - other, 2),
        "phases": phases[-1],
        "first_token_s_rounds": [round(value, 2) for value in cold],
        "plain_s_rounds": [round(value, 2) for value in direct],
    }


def _template(kubectl: Kubectl, namespace: str) -> dict[str, Any] | None:
    sets = kubectl.list("statefulsets", namespace, f"openmodel.dev/model={MODEL}")
    return dict(sets[0]["spec"]["template"]) if sets else None


def _plain(namespace: str, template: dict[str, Any]) -> list[dict[str, Any]]:
    labels = {"app": PLAIN}
    metadata = {"name": PLAIN, "namespace": namespace}
    pod = {**template, "metadata": {"labels": labels}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    service = {"selector": labels, "ports": [{"port": 8001}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    ]


async def _until_answered(caller: Caller) -> None:
    while True:
        try:
            await caller.complete(max_tokens=1)
            return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(POLL_SECONDS)


async def _gone(kubectl: Kubectl, namespace: str, name: str) -> None:
    look: Callable[[], bool] = lambda: not _pods(kubectl, namespace, name)  # noqa: E731
    await asyncio.to_thread(wait_until, f"no pod of {name}", look)


def _pods(kubectl: Kubectl, namespace: str, name: str) -> list[Any]:
    label = "app" if name == PLAIN else "openmodel.dev/model"
    return kubectl.list("pods", namespace, f"{label}={name}")


if __name__ == "__main__":
    main()
