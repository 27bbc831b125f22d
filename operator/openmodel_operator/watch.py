"""What kopf sees goes into the cache, and the key of the OpenModel that it is about to whoever looks at it.

kopf watches and writes nothing to any object. A watch that has to begin anew lists what there is, and says nothing of
what went meanwhile: such a kind is listed once more, and compared.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import kopf

from openmodel_operator import names
from openmodel_operator.cluster import WATCHED, ModelKey, refill, watched_label
from openmodel_operator.desired.router_slice import slice_name
from openmodel_operator.kube import PLURALS, Kube
from openmodel_operator.object_cache import ObjectCache
from openmodel_operator.spec import Manifest

_log = logging.getLogger(__name__)
# Whatever the watches say or miss: this is how old a mistake of theirs may get.
_REFILL_SECONDS = 300.0
# After a list of kopf's, until ours: its events come one by one.
_SETTLE_SECONDS = 5.0
_RETRY_SECONDS = 5.0
# So long without a list that went through: what is decided here rests on nothing.
_STALE_SECONDS = 6 * _REFILL_SECONDS


class Stopped(Exception):
    """The process was asked to end."""


class _NoProgress(kopf.ProgressStorage):
    """kopf copies every object to take its notes out of it; there are none."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        pass

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        pass

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        pass

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class _NoDiffBase(kopf.DiffBaseStorage):
    """Nor is anything compared with what kopf saw before."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        pass


class Watch:
    """Keeps the cache in step with the API server.

    Args:
        kube: lists.
        cache: what is kept.
        changed: told of each OpenModel of which something is new.
        waiting_for: says whose Job of a name that is.
        health_port: of kopf's HTTP endpoint.
        router: namespace and name of the routers' Service.
    """

    def __init__(
        self,
        kube: Kube,
        cache: ObjectCache,
        changed: Callable[[ModelKey], None],
        waiting_for: Callable[[str], set[ModelKey]],
        health_port: int,
        router: ModelKey = ("", ""),
    ) -> None:
        self._router = router
        self._kube = kube
        self._cache = cache
        self._changed = changed
        self._waiting_for = waiting_for
        self._health_port = health_port
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._due: dict[str, float] = dict.fromkeys(WATCHED, 0.0)
        self._unsure = set(WATCHED)
        self._asked = 0.0
        self._filled: dict[str, float] = {}
        self.filled = asyncio.Event()
        """Set once all kinds have been listed: before, nothing may be concluded from what is not there."""

    async def run(self) -> None:
        """Watches until cancelled; Stopped, in a group, when a signal told kopf to stop."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._refill_when_due())
            group.create_task(self._watch())

    def refill_all(self) -> None:
        """Has everything listed anew; then `filled` is set again, and of each OpenModel it is told."""
        self.filled.clear()
        self._asked = time.monotonic()
        self._unsure = set(WATCHED)
        self._due = dict.fromkeys(WATCHED, 0.0)
        self._wake.set()

    async def _refill_when_due(self) -> None:
        while True:
            self._wake.clear()
            for kind in [kind for kind, due in self._due.items() if due <= time.monotonic()]:
                await self._refill(kind)
            if not self._unsure and not self.filled.is_set():
                self.filled.set()
                for key in self._cache.names(names.KIND):
                    self._changed(key)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(self._due.values()) - time.monotonic())):
                    await self._wake.wait()

    async def _refill(self, kind: str) -> None:
        began = time.monotonic()
        self._due[kind] = began + _REFILL_SECONDS
        try:
            missed = await refill(self._kube, self._cache, kind)
        except Exception:
            _log.exception("listing %s failed; again in %.0f s", PLURALS[kind], _RETRY_SECONDS)
            self._due[kind] = time.monotonic() + _RETRY_SECONDS
            return
        self._filled[kind] = time.monotonic()
        if began >= self._asked:
            self._unsure.discard(kind)
        for item in missed:
            self._tell(kind, item)

    async def _watch(self) -> None:
        self._own_signals()
        while True:
            # kopf looks once for the kinds that there are, and does without the rest.
            await self._filled_or_stopped()
            try:
                await kopf.operator(
                    registry=self._registry(),
                    clusterwide=True,
                    standalone=True,
                    liveness_endpoint=f"http://0.0.0.0:{self._health_port}/healthz",
                    stop_flag=self._stop,
                )
            except Exception:
                # It gives up on errors of the API server, which pass; refused connections it waits out.
                _log.exception("watching failed; again in %.0f s", _RETRY_SECONDS)
            else:
                # It returns when a signal told it to stop.
                raise Stopped
            self._own_signals()
            if not self._stop.is_set():
                self.refill_all()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _RETRY_SECONDS)

    async def _filled_or_stopped(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self.filled, self._stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._stop.is_set():
            raise Stopped

    def _own_signals(self) -> None:
        """kopf takes the signals when it begins, and leaves them to nobody when it ends."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.startup(registry=registry)
        async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
            self._configure(settings)

        @kopf.on.login(registry=registry)
        async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            return kopf.login_via_client(**kwargs)

        @kopf.on.probe(registry=registry, id="listed")
        async def fresh(**_: Any) -> float:
            age = time.monotonic() - min(self._filled.values())
            if age > _STALE_SECONDS:
                raise RuntimeError(f"not everything was listed for {age:.0f} s")
            return age

        for kind, version in WATCHED.items():
            self._note_events(registry, kind, version)
        return registry

    def _configure(self, settings: kopf.OperatorSettings) -> None:
        self._own_signals()
        # It would kill the process a while after it ended, whatever that goes on with.
        settings.process.ultimate_exiting_timeout = None
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.watching.server_timeout = 600
        settings.watching.chunk_size = 500
        settings.networking.request_timeout = 30
        settings.persistence.progress_storage = _NoProgress()
        settings.persistence.diffbase_storage = _NoDiffBase()
        for kind, version in WATCHED.items():
            if label := watched_label(kind):
                settings.watching.label_selectors[(*_parts(version), PLURALS[kind])] = label

    def _note_events(self, registry: kopf.OperatorRegistry, kind: str, api_version: str) -> None:
        group, version = _parts(api_version)

        @kopf.on.event(group, version, PLURALS[kind], id=kind, registry=registry)
        async def note(event: Any, **_: Any) -> None:
            self._note(kind, event["type"], {**event["object"], "apiVersion": api_version, "kind": kind})

    def _note(self, kind: str, what: str | None, item: Manifest) -> None:
        if what is None and kind in self._filled:
            # kopf lists anew: what went before is not told of, nor that a list is empty.
            self._due = {each: min(due, time.monotonic() + _SETTLE_SECONDS) for each, due in self._due.items()}
            self._wake.set()
        if what == "DELETED":
            # Known already where it was our doing; that it is over is news all the same.
            self._cache.remove(kind, item)
            self._tell(kind, item)
        elif self._cache.put(kind, item):
            self._tell(kind, item)

    def _tell(self, kind: str, item: Manifest) -> None:
        metadata = item["metadata"]
        labels = metadata.get("labels") or {}
        if kind == names.KIND:
            self._changed((metadata["namespace"], metadata["name"]))
        elif kind == "EndpointSlice" and (metadata["namespace"], labels.get(names.SERVICE_LABEL)) == self._router:
            # The routers are others: so is the way of calls to models that no pod serves.
            for key in self._routed():
                self._changed(key)
        elif labels.get(names.MODEL_LABEL) and not self._is_idle_news(kind, metadata, labels[names.MODEL_LABEL]):
            self._changed((metadata["namespace"], labels[names.MODEL_LABEL]))
        for key in self._waiting_for(labels[names.JOB_LABEL]) if names.JOB_LABEL in labels else ():
            self._changed(key)

    def _is_idle_news(self, kind: str, metadata: Manifest, model: str) -> bool:
        """Whether it is a slice of a model that routers have nothing to do with: its pods have told already."""
        if kind != "EndpointSlice" or metadata["name"] == slice_name(model):
            return False
        return self._cache.get(kind, metadata["namespace"], slice_name(model)) is None

    def _routed(self) -> list[ModelKey]:
        """Models whose calls go to the routers now."""
        slices = (self._cache.get("EndpointSlice", *key) for key in self._cache.names("EndpointSlice"))
        return [
            (item["metadata"]["namespace"], item["metadata"]["labels"][names.MODEL_LABEL])
            for item in slices
            if item is not None and item["metadata"]["labels"].get(names.SLICE_MAKER_LABEL) == names.COMPONENT
        ]


def _parts(api_version: str) -> tuple[str, str]:
    """Group and version; the core group has no name."""
    group, _, version = api_version.rpartition("/")
    return group, version
