"""What a watch says, and what it leaves unsaid."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, cast

import kopf
import pytest

from openmodel_operator import names, watch
from openmodel_operator.cluster import WATCHED, ModelKey
from openmodel_operator.kube import Kube, Page
from openmodel_operator.object_cache import ObjectCache
from openmodel_operator.watch import Stopped, Watch


class ListingKube:
    """Pods by name, and how often each kind was listed."""

    def __init__(self) -> None:
        self.pods = ["stays", "goes"]
        self.lists: list[str] = []

    async def page(self, api_version: str, kind: str, selector: str, following: str = "") -> Page:
        self.lists.append(kind)
        return Page([a_pod(name) for name in self.pods] if kind == "Pod" else [], 10, "")


def a_pod(name: str) -> dict[str, Any]:
    labels = {names.MODEL_LABEL: f"model-of-{name}"}
    return {"metadata": {"namespace": "n", "name": name, "uid": name, "resourceVersion": "5", "labels": labels}}


async def test_after_a_watch_began_anew_what_went_meanwhile_is_noticed(monkeypatch: Any) -> None:
    monkeypatch.setattr(watch, "_SETTLE_SECONDS", 0.0)
    kube, cache, changed = ListingKube(), ObjectCache(), list[ModelKey]()
    subject = Watch(cast(Kube, kube), cache, changed.append, lambda _: set(), 0)
    filling = asyncio.create_task(subject._refill_when_due())
    try:
        await asyncio.wait_for(subject.filled.wait(), 10)
        assert sorted(kube.lists) == sorted(WATCHED)
        changed.clear()
        kube.lists.clear()
        kube.pods = ["stays"]
        subject._note("Pod", None, a_pod("stays"))
        assert changed == [], "an echo is no news"
        async with asyncio.timeout(10):
            while not changed:
                await asyncio.sleep(0)
        assert changed == [("n", "model-of-goes")]
        assert cache.get("Pod", "n", "goes") is None
    finally:
        filling.cancel()


async def test_an_end_of_kopfs_is_not_the_processs_but_a_signal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_RETRY_SECONDS", 0.0)
    runs: list[kopf.OperatorSettings] = []

    async def operator(stop_flag: asyncio.Event, **_: Any) -> None:
        runs.append(kopf.OperatorSettings())
        subject._configure(runs[-1])
        if len(runs) < 3:
            raise RuntimeError("503")
        os.kill(os.getpid(), signal.SIGTERM)
        await stop_flag.wait()

    monkeypatch.setattr(kopf, "operator", operator)
    kube = ListingKube()
    subject = Watch(cast(Kube, kube), ObjectCache(), lambda _: None, lambda _: set(), 0)
    with pytest.raises(ExceptionGroup) as ended:
        await asyncio.wait_for(subject.run(), 20)
    assert ended.group_contains(Stopped)
    assert len(runs) == 3
    assert kube.lists.count("Pod") >= 3, "what was missed meanwhile is listed"
    assert all(settings.process.ultimate_exiting_timeout is None for settings in runs)


def test_a_jobs_pod_is_news_for_those_who_wait_for_it() -> None:
    changed: list[ModelKey] = []
    waiting = {"job": {("n", "one"), ("n", "two")}}
    subject = Watch(cast(Kube, None), ObjectCache(), changed.append, lambda job: waiting.get(job, set()), 0)
    pod = a_pod("inspects")
    pod["metadata"]["labels"] = {names.MODEL_LABEL: names.SHARED, names.JOB_LABEL: "job"}
    subject._note("Pod", "ADDED", pod)
    assert sorted(changed) == [("n", "one"), ("n", "two")]


def a_slice(name: str, service: str, model: str, **labels: str) -> dict[str, Any]:
    told = {names.MODEL_LABEL: model, names.SERVICE_LABEL: service, **labels}
    return {"metadata": {"namespace": "n", "name": name, "uid": name, "resourceVersion": "5", "labels": told}}


def test_slices_are_news_where_routers_have_to_do_with_the_model() -> None:
    changed, cache = list[ModelKey](), ObjectCache()
    subject = Watch(cast(Kube, ListingKube()), cache, changed.append, lambda _: set(), 0, ("n", "router"))
    subject._note("EndpointSlice", "ADDED", a_slice("plain-abcde", "plain", "plain"))
    assert changed == []
    own = a_slice("asleep-router", "asleep", "asleep", **{names.SLICE_MAKER_LABEL: names.COMPONENT})
    subject._note("EndpointSlice", "ADDED", own)
    subject._note("EndpointSlice", "ADDED", a_slice("asleep-abcde", "asleep", "asleep"))
    assert changed == [("n", "asleep")] * 2
    changed.clear()
    # The routers are others; a Service of somebody else's that bears their label is not.
    subject._note("EndpointSlice", "ADDED", a_slice("router-abcde", "router", names.SHARED))
    assert changed == [("n", "asleep")]
    subject._note("EndpointSlice", "ADDED", a_slice("other-abcde", "other", names.SHARED))
    assert changed == [("n", "asleep")]
    changed.clear()
    subject._note("EndpointSlice", "DELETED", own)
    assert changed == [("n", "asleep")]
