"""Who acts, by a Lease that is a dictionary and a clock that is a number."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest

from openmodel_operator import leadership, names
from openmodel_operator.kube import Kube, KubeError
from openmodel_operator.leadership import Leadership, NotLeading
from openmodel_operator.settings import Settings
from openmodel_operator.spec import Manifest


class LeaseKube:
    """One Lease; writes with another resourceVersion than the Lease's are refused."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.away = False

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        if self.away:
            raise KubeError(0, "away")
        return self.lease

    async def create(self, lease: Manifest) -> bool:
        if self.lease is not None:
            return False
        self.lease = self._versioned(lease, 1)
        return True

    async def replace(self, lease: Manifest) -> bool:
        assert self.lease is not None
        if lease["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            return False
        self.lease = self._versioned(lease, int(lease["metadata"]["resourceVersion"]) + 1)
        return True

    def hold(self, holder: str, renewed: str) -> None:
        """Somebody else writes it."""
        version = 1 if self.lease is None else int(self.lease["metadata"]["resourceVersion"]) + 1
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed}
        self.lease = self._versioned({"metadata": {"name": names.LEASE, "namespace": "n"}, "spec": spec}, version)

    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])

    def _versioned(self, lease: Manifest, version: int) -> Manifest:
        return {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(version)}}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def candidates(kube: LeaseKube, *identities: str) -> tuple[Clock, list[Leadership]]:
    clock = Clock()
    made = [
        Leadership(cast(Kube, kube), Settings(runtime_image="", namespace="n", identity=item), lambda: None, clock)
        for item in identities
    ]
    return clock, made


def leading(*candidates: Leadership) -> list[bool]:
    return [candidate.leads for candidate in candidates]


async def test_of_two_one_leads_and_the_other_follows_when_it_is_silent() -> None:
    kube = LeaseKube()
    clock, (one, two) = candidates(kube, "one", "two")
    await one.renew()
    await two.renew()
    assert (one.leads, two.leads) == (True, False)
    with pytest.raises(NotLeading):
        two.check()
    clock.now += 14
    await two.renew()
    assert not two.leads
    assert not one.leads, "who did not renew for ten seconds does not act, though the Lease is still its own"
    clock.now += 2
    await two.renew()
    await one.renew()
    assert (one.leads, two.leads) == (False, True)
    assert kube.lease is not None
    assert kube.lease["spec"]["leaseTransitions"] == 1


@pytest.mark.parametrize("skewed", ["2020-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"])
async def test_the_time_that_another_clock_wrote_does_not_count(skewed: str) -> None:
    kube = LeaseKube()
    clock, (one,) = candidates(kube, "one")
    for beat in range(10):
        kube.hold("other", skewed.replace("00.000000", f"{beat:02}.000000"))
        await one.renew()
        assert not one.leads, "the other renews, whatever its clock says"
        clock.now += 10
    clock.now += 6
    await one.renew()
    assert one.leads, "the other is silent, whatever its clock said"


async def test_who_can_not_renew_does_not_act_and_leads_again_after() -> None:
    kube = LeaseKube()
    began = []
    clock = Clock()
    settings = Settings(runtime_image="", namespace="n", identity="one")
    one = Leadership(cast(Kube, kube), settings, lambda: began.append(clock.now), clock)
    await one.renew()
    kube.away = True
    clock.now += 9
    await one.renew()
    assert leading(one) == [True]
    clock.now += 2
    await one.renew()
    assert leading(one) == [False]
    kube.away = False
    clock.now += 100
    await one.renew()
    assert leading(one) == [True]
    assert began == [1000.0, 1111.0], "what was left undone meanwhile is looked at"


async def test_two_that_try_at_once_are_told_apart_by_the_api_server() -> None:
    kube = LeaseKube()
    kube.hold("", "2026-01-01T00:00:00.000000Z")
    _, (one, two) = candidates(kube, "one", "two")
    seen = kube.lease
    assert seen is not None

    async def stale(*_: Any) -> Manifest:
        return seen

    kube.get = stale  # type: ignore[method-assign,assignment]
    await one.renew()
    await two.renew()
    assert (one.leads, two.leads) == (True, False)


async def test_who_ends_lets_the_next_one_in_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "_RETRY_SECONDS", 0.0)
    kube = LeaseKube()
    _, (one, two) = candidates(kube, "one", "two")
    running = asyncio.create_task(one.run())
    while not one.leads:
        await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert kube.holder() == ""
    await two.renew()
    assert two.leads


async def test_what_was_begun_before_another_led_is_not_finished_after() -> None:
    kube = LeaseKube()
    clock, (one, two) = candidates(kube, "one", "two")
    await one.renew()
    one.enter()
    one.check()
    await two.renew()
    clock.now += 16
    await two.renew()
    assert leading(one, two) == [False, True]
    clock.now += 1
    await one.renew()
    clock.now += 16
    await one.renew()
    assert leading(one, two) == [True, False]
    with pytest.raises(NotLeading, match="meanwhile"):
        one.check()
    one.enter()
    one.check()


async def test_a_lapse_during_a_slow_renewal_begins_a_new_term() -> None:
    kube, began, clock = LeaseKube(), list[float](), Clock()
    settings = Settings(runtime_image="", namespace="n", identity="one")
    one = Leadership(cast(Kube, kube), settings, lambda: began.append(clock.now), clock)
    await one.renew()
    clock.now += 8
    replace = kube.replace

    async def slow(lease: Manifest) -> bool:
        clock.now += 3
        return await replace(lease)

    kube.replace = slow  # type: ignore[method-assign]
    await one.renew()
    assert one.leads
    assert began == [1000.0, 1011.0]
