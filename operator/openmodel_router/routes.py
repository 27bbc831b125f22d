"""Which model has which port, and which pods take its calls: what EndpointSlices say.

Pure, but for whoever waits for pods. Of a model there are slices of two makers: one of the operator's, whose port is
the model's here, and those that Kubernetes makes of its Service, whose ready addresses are its pods'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

_log = logging.getLogger(__name__)
MODEL_LABEL = "openmodel.dev/model"
_SERVICE_LABEL = "kubernetes.io/service-name"
_MAKER_LABEL = "endpointslice.kubernetes.io/managed-by"
_OPERATOR = "openmodel-operator"
_ANSWERS = "openmodel.dev/answers"
PORTS = range(10000, 32768)
"""That models may have."""

Model = tuple[str, str]
"""Namespace and name."""


class NoDoor(Exception):
    """The model is gone, or does not wake for calls."""


@dataclass(frozen=True, slots=True)
class Door:
    """A model's own port here."""

    port: int
    made: str
    """When its slice was: of two models with one port, the older one's it is."""
    answers: bool
    """A call would be answered, were the model awake: it has answered before, as it is now."""


@dataclass(frozen=True, slots=True)
class _Slice:
    model: Model
    door: Door | None
    pods: tuple[str, ...]


class Routes:
    """All models that have a port here."""

    def __init__(self) -> None:
        self._slices: dict[Model, _Slice] = {}
        self._of_model: dict[Model, set[Model]] = {}
        self._at_port: dict[int, list[Model]] = {}
        self._waiting: dict[Model, set[asyncio.Event]] = {}
        self.changed = asyncio.Event()
        """Set when ports came or went; whoever opens them clears it."""

    def retain(self, keys: Set[Model]) -> None:
        """Slices of these namespaces and names are all that there are."""
        for key in [key for key in self._slices if key not in keys]:
            self._remove(key)

    def put(self, item: Mapping[str, Any]) -> None:
        """A slice is there, or is another."""
        known = _parse(item)
        if known is None:
            self._remove(key_of(item))
            return
        before = self._slices.get(key_of(item))
        if known == before:
            return
        if before is not None:
            self._remove(key_of(item))
        self._slices[key_of(item)] = known
        self._of_model.setdefault(known.model, set()).add(key_of(item))
        if known.door is not None:
            self._open(known.model, known.door)
        if known.pods:
            for event in self._waiting.get(known.model, ()):
                event.set()

    def remove(self, item: Mapping[str, Any]) -> None:
        """A slice is gone."""
        self._remove(key_of(item))

    def ports(self) -> set[int]:
        """Those of all models."""
        return set(self._at_port)

    def model_at(self, port: int) -> Model | None:
        """Whose port it is."""
        models = self._at_port.get(port)
        return models[0] if models else None

    def door(self, model: Model) -> Door | None:
        """A model's port."""
        return next((item.door for item in self._slices_of(model) if item.door is not None), None)

    def pods(self, model: Model) -> tuple[str, ...]:
        """Addresses, with ports, of the pods that take a model's calls."""
        return tuple(sorted({pod for item in self._slices_of(model) for pod in item.pods}))

    async def served(self, model: Model, but: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Waits for pods that take a model's calls, others than those named; NoDoor when nothing would bring them."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(model, set())
        waiting.add(event)
        try:
            while not (pods := tuple(pod for pod in self.pods(model) if pod not in but)):
                if self.door(model) is None:
                    if anyone := self.pods(model):
                        return anyone
                    raise NoDoor
                event.clear()
                await event.wait()
            return pods
        finally:
            waiting.discard(event)
            if not waiting and self._waiting.get(model) is waiting:
                del self._waiting[model]

    def _slices_of(self, model: Model) -> list[_Slice]:
        return [self._slices[key] for key in self._of_model.get(model, ())]

    def _open(self, model: Model, door: Door) -> None:
        models = self._at_port.setdefault(door.port, [])
        models.append(model)
        models.sort(key=lambda each: (_made(self.door(each)), each))
        if len(models) > 1:
            _log.warning("port %d is claimed by %s; it is %s's", door.port, models, models[0])
        self.changed.set()

    def _remove(self, key: Model) -> None:
        known = self._slices.pop(key, None)
        if known is None:
            return
        keys = self._of_model[known.model]
        keys.discard(key)
        if not keys:
            del self._of_model[known.model]
        if known.door is not None:
            for event in self._waiting.get(known.model, ()):
                event.set()
            models = self._at_port[known.door.port]
            models.remove(known.model)
            if not models:
                del self._at_port[known.door.port]
            self.changed.set()


def _made(door: Door | None) -> str:
    return "" if door is None else door.made


def key_of(item: Mapping[str, Any]) -> Model:
    """Namespace and name of a slice."""
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _parse(item: Mapping[str, Any]) -> _Slice | None:
    """What a slice says; None when it is nothing of a model's."""
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    name = labels.get(MODEL_LABEL)
    ports = [port["port"] for port in item.get("ports") or [] if port.get("name") == "grpc" and port.get("port")]
    # Groups have Services of their own, whose pods are not ready as yet.
    if not name or labels.get(_SERVICE_LABEL) != name or len(ports) != 1:
        return None
    model = (metadata["namespace"], name)
    if labels.get(_MAKER_LABEL) == _OPERATOR:
        if ports[0] not in PORTS:
            _log.warning("%s/%s: port %d is none of a model's", *key_of(item), ports[0])
            return None
        answers = (metadata.get("annotations") or {}).get(_ANSWERS) == "true"
        return _Slice(model, Door(ports[0], metadata.get("creationTimestamp", ""), answers), ())
    pods = tuple(
        f"[{address}]:{ports[0]}" if ":" in address else f"{address}:{ports[0]}"
        for endpoint in item.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready") is True
        for address in endpoint["addresses"]
    )
    return _Slice(model, None, pods)
