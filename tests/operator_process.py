"""The operator as a process of its own beside a cluster: as it is, but for the pods, which nobody needs to ask.

`python operator_process.py NAMESPACE IDENTITY METRICS_PORT HEALTH_PORT`; the cluster is KUBECONFIG's.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from openmodel_operator.golden_prompts import GoldenPrompt
from openmodel_operator.group_report import GroupReport
from openmodel_operator.main import run
from openmodel_operator.observed import Proof
from openmodel_operator.probe import Probes
from openmodel_operator.scaling.load import PodLoad
from openmodel_operator.settings import Settings
from openmodel_telemetry.logs import configure_logging

RUNTIME_IMAGE = "registry.example/runtime@sha256:" + "0" * 64


async def _prove(address: str, model: str, revision: str) -> Proof:
    return Proof(ok=True, seconds=0.1, facts={"architecture": "MixtralForCausalLM"})


async def _no_group(address: str) -> GroupReport | None:
    return None


async def _no_load(address: str) -> PodLoad | None:
    return None


async def _no_tokens(address: str, model: str, revision: str, prompt: GoldenPrompt) -> Sequence[int]:
    raise ConnectionError("a pod that is none")


if __name__ == "__main__":
    configure_logging()
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    namespace, identity, metrics_port, health_port = sys.argv[1:]
    settings = Settings(
        runtime_image=RUNTIME_IMAGE,
        namespace=namespace,
        identity=identity,
        metrics_port=int(metrics_port),
        health_port=int(health_port),
        # Whichever is free: several operators share this machine.
        scaler_port=0,
    )
    asyncio.run(run(settings, Probes(_prove, _no_group, _no_load, _no_tokens)))
