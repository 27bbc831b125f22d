"""The cluster as the controller deals with it: reads what is watched from the cache, writes only what would change.

Knows what is watched; how to talk to the API server is `kube`'s. Nothing is written by who does not lead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from openmodel_operator import names
from openmodel_operator.complaints import complaint, questionable
from openmodel_operator.desired.applied import is_applied, stamped
from openmodel_operator.desired.identity import owned_by
from openmodel_operator.failures import Failure
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.object_cache import Key, ObjectCache, key_of
from openmodel_operator.spec import Manifest

_log = logging.getLogger(__name__)

WATCHED = {
    names.KIND: names.API_VERSION,
    "StatefulSet": "apps/v1",
    "Service": "v1",
    "ConfigMap": "v1",
    "Pod": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
}
"""What the cache holds, and its versions: all OpenModels, and of the rest what the operator made or had made."""

ModelKey = Key
"""Of an OpenModel."""


def watched_label(kind: str) -> str:
    """The label that objects of a watched kind bear; "" when all of them are watched."""
    return "" if kind == names.KIND else names.MODEL_LABEL


class NameTaken(Exception):
    """An object of somebody else's stands under a name that a child needs: it is never taken over."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"metadata.name: a {kind} {name} that is not this OpenModel's is there, and is left alone; "
            f"give the OpenModel another name or delete the {kind}"
        )


class Cluster:
    """One API server, seen through a cache.

    Args:
        kube: the API server.
        cache: what has been seen of it.
        check_leading: raises what keeps this process from writing.
        router: namespace and name of the routers' Service; "" for none.
    """

    def __init__(
        self, kube: Kube, cache: ObjectCache, check_leading: Callable[[], None], router: tuple[str, str] = ("", "")
    ) -> None:
        self._router = router
        self._kube = kube
        self._cache = cache
        self._check = check_leading
        self._same: dict[str, tuple[str, str]] = {}
        self.changed: Callable[[ModelKey], None] = lambda _: None
        """Told of models whose children a look has changed: what comes of it may be seen already, and is no news."""

    def model(self, namespace: str, name: str) -> Manifest | None:
        """An OpenModel as it was last seen."""
        return self._cache.get(names.KIND, namespace, name)

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        """Any object, also one that is not watched."""
        found = self._cache.get(kind, namespace, name) if kind in WATCHED else None
        return found or await self._kube.get(api_version, kind, namespace, name)

    def children(self, kind: str, namespace: str, model: str) -> list[Manifest]:
        """Objects of a watched kind that bear a model's label, which anybody may write."""
        return self._cache.labelled(kind, namespace, names.MODEL_LABEL, model)

    def all(self, kind: str) -> Iterator[Manifest]:
        """All objects of a watched kind."""
        for key in self._cache.names(kind):
            item = self._cache.get(kind, *key)
            if item is not None:
                yield item

    @property
    def has_routers(self) -> bool:
        """Whether routers are installed, whether they run or not."""
        return bool(self._router[1])

    def routers(self, *, ready: bool) -> list[str]:
        """Addresses of the routers: that take calls, or of all, also of those that only finish what they have."""
        namespace, service = self._router
        slices = self._cache.labelled("EndpointSlice", namespace, names.MODEL_LABEL, names.SHARED)
        return sorted(
            {
                address
                for item in slices
                if item["metadata"]["labels"].get(names.SERVICE_LABEL) == service
                for endpoint in item.get("endpoints") or []
                if not ready or endpoint.get("conditions", {}).get("ready") is not False
                for address in endpoint["addresses"]
            }
        )

    def job_pods(self, namespace: str, job: str) -> list[Manifest]:
        """Pods that bear a Job's label."""
        return self._cache.labelled("Pod", namespace, names.JOB_LABEL, job)

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply of what is one model's alone, where it is not as it should be.

        Raises:
            NameTaken: an object of that name is not this model's.
        """
        wanted = stamped(manifest)
        live = await self.get_named(manifest)
        if live is not None:
            _check_owner(manifest, live)
            if is_applied(wanted, live) or self._same.get(live["metadata"]["uid"]) == _state(wanted, live):
                return
        answer = await self._apply(wanted, names.FIELD_MANAGER)
        if live is not None and answer["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]:
            # It says the same in other words: that it does so is known now.
            self._same[live["metadata"]["uid"]] = _state(wanted, live)
            return
        self._tell_changed(manifest)

    async def check_name(self, manifest: Manifest) -> None:
        """Raises NameTaken when an object of a manifest's kind and name is there that is not its owner's."""
        found = await self.get_named(manifest)
        if found is not None:
            _check_owner(manifest, found)

    async def get_named(self, manifest: Manifest) -> Manifest | None:
        """What is there of a manifest's kind and name, whoever's it is."""
        metadata = manifest["metadata"]
        return await self.get(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])

    async def share(self, manifest: Manifest, manager: str) -> Manifest:
        """Server-side apply of what several models own, each under a field manager of its own."""
        return await self._apply(manifest, manager)

    async def delete(self, manifest: Manifest) -> None:
        """Deletes exactly this object; what is gone, or about to go, is fine."""
        if "deletionTimestamp" in manifest["metadata"]:
            return
        self._check()
        _log.info("deleting %s %s", manifest["kind"], manifest["metadata"]["name"])
        await self._kube.delete(manifest)
        # One that has to wait for something is heard of again.
        self._cache.remove(manifest["kind"], manifest)
        self._same.pop(manifest["metadata"]["uid"], None)
        self._tell_changed(manifest)

    async def patch_status(self, model: Manifest, patch: Manifest) -> None:
        """Merge-patches the status; an object that is gone is fine."""
        self._check()
        answer = await self._kube.patch_status(model, patch)
        if answer is None:
            return
        self._cache.put(names.KIND, answer)
        metadata = answer["metadata"]
        if metadata["generation"] != model["metadata"]["generation"]:
            # The user's change came in with it, and will look like an echo.
            self.changed((metadata["namespace"], metadata["name"]))

    async def scale(self, model: Manifest, replicas: int) -> bool:
        """Writes the count of a model's groups; False when the model has changed since it was seen, or is gone."""
        self._check()
        return await self._kube.scale(model, replicas)

    async def create_event(self, event: Manifest) -> None:
        """Posts an Event; one that is refused, as in a namespace that ends, is let go."""
        self._check()
        try:
            await self._kube.create_event(event)
        except KubeError as error:
            if not error.permanent:
                raise
            _log.info("an Event was refused: %s", error)

    async def complaints(self, makers: Sequence[Manifest], pods: Sequence[Manifest]) -> dict[str, Failure]:
        """What Events tell of pods that do not start, and of what should make some, by name."""
        now, found = datetime.now(UTC), {}
        for item, about in questionable(makers, pods, now):
            metadata = item["metadata"]
            try:
                events = await self._kube.warnings(metadata["namespace"], metadata["uid"])
            except KubeError as error:
                # What is decided does not hang on it.
                _log.warning("Events about %s can not be read: %s", metadata["name"], error)
                continue
            told = complaint(item, about, events, now)
            if told is not None:
                found[metadata["name"]] = told
        return found

    async def log(self, namespace: str, pod: str, lines: int) -> str:
        """The last lines of a pod's log; "" when there is none to be had."""
        return await self._kube.log(namespace, pod, lines)

    def _tell_changed(self, child: Manifest) -> None:
        metadata = child["metadata"]
        self.changed((metadata["namespace"], metadata["labels"][names.MODEL_LABEL]))

    async def _apply(self, manifest: Manifest, manager: str) -> Manifest:
        self._check()
        answer = await self._kube.apply(manifest, manager)
        kind = manifest["kind"]
        if kind in WATCHED and watched_label(kind) in answer["metadata"].get("labels", {}):
            self._cache.put(kind, answer)
        return answer


def _check_owner(manifest: Manifest, found: Manifest) -> None:
    (owner,) = manifest["metadata"]["ownerReferences"]
    if not owned_by(found, owner["uid"]):
        raise NameTaken(manifest["kind"], manifest["metadata"]["name"])


def _state(wanted: Manifest, live: Manifest) -> tuple[str, str]:
    return wanted["metadata"]["annotations"][names.APPLIED_ANNOTATION], live["metadata"]["resourceVersion"]


async def refill(kube: Kube, cache: ObjectCache, kind: str) -> list[Manifest]:
    """Lists all objects of a watched kind.

    Returns:
        What the cache had otherwise: what a watch may have missed.
    """
    missed: list[Manifest] = []
    keys: set[Key] = set()
    following = ""
    while True:
        try:
            page = await kube.page(WATCHED[kind], kind, watched_label(kind), following)
        except KubeError as error:
            if error.status != HTTPStatus.GONE or not following:
                raise
            # It took too long to read: from the beginning.
            keys, following = set(), ""
            continue
        # Page by page: of all of them at once there may be too many.
        missed += [item for item in page.items if cache.put(kind, item)]
        keys |= {key_of(item) for item in page.items}
        following = page.following
        if not following:
            return missed + cache.retain(kind, keys, page.version)
