"""The operator's process: kopf watches, the queue works, the controller decides.

Handlers do nothing but put a key into the queue: kopf writes nothing to any object.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from typing import Any

import kopf

from openmodel_operator import names
from openmodel_operator.controller import Controller, ModelKey
from openmodel_operator.kube import Kube
from openmodel_operator.probe import ask_group, complete, prove
from openmodel_operator.settings import Settings, SettingsError
from openmodel_operator.telemetry.metrics import OperatorMetrics
from openmodel_operator.work_queue import WorkQueue

_log = logging.getLogger("openmodel_operator")
_WORKERS = 16
# Without a finished resync for this many periods the operator is stuck, and the kubelet should restart it.
_STUCK_PERIODS = 10
_CHILDREN = (("apps", "v1", "statefulsets"), ("", "v1", "services"), ("", "v1", "pods"))


class Operator:
    """Everything that lives as long as the process."""

    def __init__(self, settings: Settings, kube: Kube, metrics: OperatorMetrics) -> None:
        self._settings = settings
        self._kube = kube
        self._metrics = metrics
        self._controller = Controller(kube, settings, prove, ask_group, complete)
        metrics.watch_plans(lambda: self._controller.plan_ratios)
        self._queue: WorkQueue[ModelKey] = WorkQueue(self._look, _WORKERS)
        self._resynced = time.monotonic()

    async def run(self) -> None:
        """Runs until cancelled or until one part fails."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._resync())
            group.create_task(self._watch())

    async def _look(self, key: ModelKey) -> None:
        with self._metrics.reconcile():
            await self._controller.reconcile(key)

    async def _resync(self) -> None:
        """Looks at every OpenModel now and then: no event is needed for the truth to come out."""
        while True:
            try:
                for model in await self._kube.list(names.API_VERSION, names.KIND, None, {}):
                    self._queue.add((model["metadata"]["namespace"], model["metadata"]["name"]))
                self._resynced = time.monotonic()
            except Exception:
                _log.exception("listing OpenModels failed")
            await asyncio.sleep(self._settings.resync_seconds)

    async def _watch(self) -> None:
        await kopf.operator(
            registry=self._registry(),
            clusterwide=True,
            standalone=True,
            liveness_endpoint=f"http://0.0.0.0:{self._settings.health_port}/healthz",
        )
        # kopf returns when it was told to stop by a signal.
        raise SystemExit(0)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.startup(registry=registry)
        def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
            settings.posting.enabled = False
            settings.scanning.disabled = True
            settings.watching.server_timeout = 600
            settings.networking.request_timeout = 30

        @kopf.on.login(registry=registry)
        def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            return kopf.login_via_client(**kwargs)

        @kopf.on.probe(registry=registry, id="resync")
        def fresh(**_: Any) -> float:
            age = time.monotonic() - self._resynced
            if age > _STUCK_PERIODS * self._settings.resync_seconds:
                raise RuntimeError(f"no OpenModel was listed for {age:.0f} s")
            return age

        @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
        def model_event(namespace: str | None, name: str | None, **_: Any) -> None:
            if namespace and name:
                self._queue.add((namespace, name))

        @kopf.on.event("", "v1", "pods", labels={names.JOB_LABEL: kopf.PRESENT}, id="fetch", registry=registry)
        def job_event(labels: Any, **_: Any) -> None:
            for key in self._controller.waiting_for(labels[names.JOB_LABEL]):
                self._queue.add(key)

        for group, version, plural in _CHILDREN:
            self._enqueue_owner(registry, group, version, plural)
        return registry

    def _enqueue_owner(self, registry: kopf.OperatorRegistry, group: str, version: str, plural: str) -> None:
        @kopf.on.event(
            group,
            version,
            plural,
            labels={names.MODEL_LABEL: kopf.PRESENT},
            id=plural,
            registry=registry,
        )
        def child_event(namespace: str | None, labels: Any, **_: Any) -> None:
            if namespace:
                self._queue.add((namespace, labels[names.MODEL_LABEL]))


async def _run(settings: Settings) -> None:
    kube = await Kube.connect()
    metrics = OperatorMetrics()
    exposition = metrics.serve("0.0.0.0", settings.metrics_port)
    try:
        await Operator(settings, kube, metrics).run()
    finally:
        exposition.shutdown()
        await kube.close()


def main() -> int:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(f"openmodel-operator: {error}", file=sys.stderr)
        return 2
    asyncio.run(_run(settings))
    return 0
