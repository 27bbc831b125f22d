"""The operator's process: watches fill the cache, the queue works, the controller decides, one of several acts."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable

import grpc

from openmodel_operator import names
from openmodel_operator.cluster import Cluster, ModelKey
from openmodel_operator.cold_routes import ColdRoutes
from openmodel_operator.controller import Controller
from openmodel_operator.kube import Kube
from openmodel_operator.leadership import Leadership, NotLeading
from openmodel_operator.metrics import OperatorMetrics
from openmodel_operator.object_cache import ObjectCache
from openmodel_operator.observer import Observer
from openmodel_operator.probe import Probes
from openmodel_operator.scaling.autoscaler import Autoscaler
from openmodel_operator.scaling.decision import Tempo
from openmodel_operator.scaling.external_scaler import ExternalScaler, serve_scaler
from openmodel_operator.scaling.router_demand import RouterDemand
from openmodel_operator.scaling.scaler_tls import MountedCertificates
from openmodel_operator.scaling.signals import Signals
from openmodel_operator.settings import Settings, SettingsError
from openmodel_operator.watch import Stopped, Watch
from openmodel_operator.work_queue import WorkQueue
from openmodel_telemetry.logs import configure_logging
from openmodel_telemetry.providers import Telemetry

_log = logging.getLogger("openmodel_operator")
_WORKERS = 32
# After a change of ours: what comes of it at once is seen by then.
_LOOK_AGAIN_SECONDS = 1.0
# Of looks without an event: ten thousand models are not to fill a core with them.
_RESYNCS_PER_SECOND = 50.0
# What keeps a pod from starting may show in an Event alone, and what a model has to do only in its pods' answers, of
# which nobody is told: those underway, and those that are scaled here, are looked at more often, not many at once.
_OFTEN_SECONDS = 4.0
_UNDERWAY_AT_ONCE = 40
_SCALED_AT_ONCE = 100


class Operator:
    """Everything that lives as long as the process."""

    def __init__(self, settings: Settings, kube: Kube, metrics: OperatorMetrics, probes: Probes) -> None:
        self._settings = settings
        self._metrics = metrics
        self._cache = ObjectCache()
        self._leadership = Leadership(kube, settings, self._begin_term)
        router = (settings.namespace, settings.router_service)
        cluster = Cluster(kube, self._cache, self._leadership.check, router)
        cluster.changed = lambda key: self._queue.add_later(key, _LOOK_AGAIN_SECONDS)
        self._demand = RouterDemand(lambda: cluster.routers(ready=False), self._called)
        signals = Signals(probes.ask_load, self._demand.held)
        observer = Observer(cluster, probes, metrics.started)
        self._scaler = ExternalScaler(cluster, observer, signals)
        self._credentials = _scaler_credentials(settings)
        self._autoscaler = Autoscaler(cluster, signals, Tempo(down=settings.scale_down_seconds), metrics.scaled)
        self._routes = ColdRoutes(cluster)
        self._controller = Controller(cluster, settings, probes, observer, self._autoscaler, self._routes)
        self._queue: WorkQueue[ModelKey] = WorkQueue(self._look, _WORKERS)
        self._watch = Watch(
            kube, self._cache, self._queue.add, self._controller.waiting_for, settings.health_port, router
        )
        metrics.watch_plans(lambda: self._controller.plan_ratios if self._leadership.leads else {})
        metrics.watch_leader(lambda: self._leadership.leads)
        metrics.watch_models(lambda: self._controller.readiness if self._leadership.leads else {})

    async def run(self) -> None:
        """Runs until a signal tells it to stop, or one part fails."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._queue.run())
                group.create_task(self._resync())
                group.create_task(self._resync_often(lambda: self._controller.underway, _UNDERWAY_AT_ONCE))
                group.create_task(self._resync_often(lambda: self._controller.scaled, _SCALED_AT_ONCE))
                # Those that calls wait for: whoever begins to lead has heard of them before.
                group.create_task(self._resync_often(self._demand.models, _SCALED_AT_ONCE, first=True))
                group.create_task(self._demand.run())
                group.create_task(serve_scaler(self._scaler, self._settings.scaler_port, self._credentials))
                group.create_task(self._lead())
                # Last: kopf ends all tasks that came after it when it ends.
                group.create_task(self._watch.run())
        except* Stopped:
            _log.info("stops: a signal asked for it")

    async def _lead(self) -> None:
        # Who has not seen everything must not conclude anything from what is not there.
        await self._watch.filled.wait()
        await self._leadership.run()

    def _begin_term(self) -> None:
        # Another may have acted until now, and the watches are not all equally far.
        self._watch.refill_all()
        self._autoscaler.forget_all()
        self._routes.forget_all()

    def _called(self, key: ModelKey) -> None:
        self._scaler.changed(key)
        # Somebody waits.
        self._queue.add(key, first=True)

    async def _look(self, key: ModelKey) -> None:
        acts = self._leadership.leads and self._watch.filled.is_set()
        if not acts and self._cache.get(names.KIND, *key) is not None:
            # Whoever begins to lead looks at all of them; what is gone is forgotten by all.
            return
        self._leadership.enter()
        with self._metrics.reconcile(*key):
            try:
                await self._controller.reconcile(key)
            except NotLeading as error:
                _log.warning("%s/%s is left to who leads: %s", *key, error)

    async def _resync(self) -> None:
        """Looks at every OpenModel now and then: no event is needed for the truth to come out."""
        while True:
            models = self._cache.names(names.KIND)
            pause = max(self._settings.resync_seconds / max(1, len(models)), 1 / _RESYNCS_PER_SECOND)
            for key in models:
                self._queue.add(key)
                await asyncio.sleep(pause)
            if not models:
                await asyncio.sleep(self._settings.resync_seconds)

    async def _resync_often(self, models: Callable[[], set[ModelKey]], at_once: int, *, first: bool = False) -> None:
        while True:
            await asyncio.sleep(_OFTEN_SECONDS)
            keys = sorted(models())
            for key in random.sample(keys, min(at_once, len(keys))):
                self._queue.add(key, first=first)


def _scaler_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    folder = settings.scaler_tls
    if folder is None:
        return None
    try:
        required = settings.scaler_requires_client_certificate
        return MountedCertificates(folder, require_client=required).credentials()
    except (OSError, ValueError) as error:
        raise SettingsError(f"OPENMODEL_SCALER_TLS: {error}") from None


async def run(settings: Settings, probes: Probes) -> None:
    """Runs an operator until it is told to stop by a signal."""
    telemetry = Telemetry("openmodel-operator")
    metrics = OperatorMetrics(telemetry)
    kube = await Kube.connect(metrics.request)
    telemetry.serve("0.0.0.0", settings.metrics_port)
    try:
        await Operator(settings, kube, metrics, probes).run()
    finally:
        await asyncio.to_thread(telemetry.shutdown)
        await kube.close()


def main() -> int:
    """Entry point."""
    configure_logging()
    # What is said of every object, and of every question of the kubelet's.
    for talkative in ("kopf.objects", "kopf.activities.probe", "aiohttp.access"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        asyncio.run(run(Settings.from_env(os.environ), Probes()))
    except SettingsError as error:
        print(f"openmodel-operator: {error}", file=sys.stderr)
        return 2
    return 0
