"""Reading through the cache, writing only what would change, and only while leading."""

from __future__ import annotations

from typing import Any, cast

import pytest

from factories import IDENTITY
from kube_double import DictionaryKube
from openmodel_operator import names
from openmodel_operator.cluster import Cluster, ModelKey, NameTaken, refill
from openmodel_operator.desired.network_policy import network_policy
from openmodel_operator.kube import Kube, KubeError, Page
from openmodel_operator.leadership import NotLeading
from openmodel_operator.object_cache import ObjectCache
from openmodel_operator.spec import Manifest
from openmodel_operator.telemetry_spec import TelemetrySpec


class CountingKube(DictionaryKube):
    """Counts what is applied; shows the user's changes in what a status patch answers."""

    applied = 0

    async def apply(self, manifest: Manifest, manager: str = "") -> Manifest:
        self.applied += 1
        return await super().apply(manifest, manager)


def a_cluster(kube: DictionaryKube, cache: ObjectCache) -> tuple[Cluster, list[ModelKey]]:
    cluster = Cluster(cast(Kube, kube), cache, lambda: None)
    changed: list[ModelKey] = []
    cluster.changed = changed.append
    return cluster, changed


async def test_what_is_as_it_should_be_is_not_written_again() -> None:
    kube, cache = CountingKube(), ObjectCache()
    cluster, changed = a_cluster(kube, cache)
    for _ in range(3):
        await cluster.apply(network_policy(IDENTITY, TelemetrySpec()))
    assert kube.applied == 1
    assert changed == [(IDENTITY.namespace, IDENTITY.name)]
    by_hand = cache.get("NetworkPolicy", IDENTITY.namespace, IDENTITY.name)
    assert by_hand is not None
    by_hand["spec"]["ingress"] = []
    by_hand["metadata"]["resourceVersion"] = "99"
    cache.put("NetworkPolicy", by_hand)
    await cluster.apply(network_policy(IDENTITY, TelemetrySpec()))
    assert kube.applied == 2


async def test_what_reads_differently_for_ever_is_written_once() -> None:
    kube, cache = CountingKube(), ObjectCache()
    cluster, changed = a_cluster(kube, cache)
    await cluster.apply(network_policy(IDENTITY, TelemetrySpec()))
    changed.clear()
    cached = cache.get("NetworkPolicy", IDENTITY.namespace, IDENTITY.name)
    assert cached is not None
    # The API server has put something of its own in the place of what was applied.
    cached["spec"]["policyTypes"] = ["In other words"]
    other = ObjectCache()
    other.put("NetworkPolicy", cached)
    again, changed = a_cluster(kube, other)
    for _ in range(3):
        await again.apply(network_policy(IDENTITY, TelemetrySpec()))
    assert kube.applied == 2
    assert changed == []


async def test_what_bears_no_label_of_ours_is_not_taken_over() -> None:
    kube = CountingKube()
    kube.objects["NetworkPolicy", IDENTITY.name] = {"metadata": {"name": IDENTITY.name, "uid": "theirs"}}
    cluster, _ = a_cluster(kube, ObjectCache())
    with pytest.raises(NameTaken, match="left alone"):
        await cluster.apply(network_policy(IDENTITY, TelemetrySpec()))
    assert kube.applied == 0


async def test_what_is_not_watched_or_not_seen_is_asked_for() -> None:
    kube = DictionaryKube()
    kube.objects["ConfigMap", "golden"] = {"metadata": {"name": "golden"}}
    kube.objects["Job", "job"] = {"metadata": {"name": "job"}}
    cluster, _ = a_cluster(kube, ObjectCache())
    assert await cluster.get("v1", "ConfigMap", "default", "golden")
    assert await cluster.get("batch/v1", "Job", "default", "job")


async def test_a_change_of_the_users_that_comes_in_with_our_own_write_is_not_taken_for_an_echo() -> None:
    kube, cache = DictionaryKube(), ObjectCache()
    cluster, changed = a_cluster(kube, cache)
    seen = kube.model
    assert seen is not None
    metadata = {**seen["metadata"], "generation": 2, "resourceVersion": "12"}

    async def answer(model: Manifest, patch: Manifest) -> Manifest:
        return {**seen, "metadata": metadata}

    kube.patch_status = answer  # type: ignore[method-assign,assignment]
    await cluster.patch_status(seen, {})
    assert changed == [(IDENTITY.namespace, IDENTITY.name)]
    found = cluster.model(IDENTITY.namespace, IDENTITY.name)
    assert found is not None
    assert found["metadata"]["generation"] == 2


async def test_who_does_not_lead_writes_nothing() -> None:
    def refuse() -> None:
        raise NotLeading("no")

    kube = CountingKube()
    cluster = Cluster(cast(Kube, kube), ObjectCache(), refuse)
    child = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "n", "name": "s", "uid": "u"}}
    writes: list[Any] = [
        cluster.apply(network_policy(IDENTITY, TelemetrySpec())),
        cluster.share(network_policy(IDENTITY, TelemetrySpec()), "m"),
        cluster.delete(child),
        cluster.patch_status(child, {}),
        cluster.create_event(child),
    ]
    for write in writes:
        with pytest.raises(NotLeading):
            await write
    assert (kube.applied, kube.events) == (0, [])


class PagedKube:
    """Two pages, of which the second has expired at first."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def page(self, api_version: str, kind: str, selector: str, following: str = "") -> Page:
        self.asked.append((kind, selector, following))
        name = "second" if following else "first"
        metadata = {"namespace": "n", "name": name, "uid": name, "resourceVersion": "3"}
        if following and len(self.asked) == 2:
            raise KubeError(410, "too old")
        return Page([{"metadata": metadata}], 4, "" if following else "more")


async def test_a_list_that_expires_half_read_is_read_again() -> None:
    kube, cache = PagedKube(), ObjectCache()
    missed = await refill(cast(Kube, kube), cache, "Pod")
    assert [item["metadata"]["name"] for item in missed] == ["first", "second"]
    assert kube.asked == [("Pod", names.MODEL_LABEL, following) for following in ("", "more", "", "more")]
    assert await refill(cast(Kube, kube), cache, "Pod") == []
