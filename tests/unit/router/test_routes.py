"""What EndpointSlices say: which model has which port, and which pods take its calls."""

from __future__ import annotations

import asyncio

import pytest

from openmodel_router.routes import NoDoor, Routes
from router_parts import a_slice

M = ("default", "m")


def test_a_model_has_a_door_of_the_operators_and_pods_of_its_service() -> None:
    routes = Routes()
    routes.put(a_slice("m", door=10000, answers=False))
    routes.put(a_slice("m", pods=["10.0.0.1:8001", "10.0.0.2:8001"]))
    assert routes.model_at(10000) == M
    assert routes.pods(M) == ("10.0.0.1:8001", "10.0.0.2:8001")
    door = routes.door(M)
    assert door is not None
    assert not door.answers
    routes.put(a_slice("m", pods=["10.0.0.1:8001"], ready=False))
    assert routes.pods(M) == ()


def test_an_address_of_the_other_family_is_written_as_such() -> None:
    routes = Routes()
    routes.put(a_slice("m", pods=["fd00::1:8001"]))
    assert routes.pods(M) == ("[fd00::1]:8001",)


def test_services_of_groups_and_slices_of_others_say_nothing() -> None:
    routes = Routes()
    routes.put(a_slice("m", pods=["10.0.0.1:8001"], service="m-12345-0"))
    routes.put(a_slice("", pods=["10.0.0.1:8001"]))
    assert routes.pods(M) == ()
    assert routes.ports() == set()


def test_of_two_models_with_one_port_it_is_the_older_ones_until_that_goes() -> None:
    routes = Routes()
    routes.put(a_slice("young", door=10000, made="2026-01-02T00:00:00Z"))
    routes.put(a_slice("old", door=10000, made="2026-01-01T00:00:00Z"))
    assert routes.model_at(10000) == ("default", "old")
    routes.remove(a_slice("old", door=10000))
    assert routes.model_at(10000) == ("default", "young")
    routes.remove(a_slice("young", door=10000))
    assert routes.model_at(10000) is None
    assert routes.ports() == set()


def test_what_a_list_does_not_have_is_gone() -> None:
    routes = Routes()
    slices = [a_slice("m", door=10000), a_slice("m", pods=["10.0.0.1:8001"]), a_slice("n", door=10001)]
    for item in slices:
        routes.put(item)
    routes.changed.clear()
    routes.retain({("default", "m-router")})
    assert routes.ports() == {10000}
    assert routes.pods(M) == ()
    assert routes.changed.is_set()


def test_a_port_that_no_model_can_have_is_not_opened() -> None:
    routes = Routes()
    for port in (53, 9090, 32768):
        routes.put(a_slice("m", door=port))
    assert routes.ports() == set()


async def test_whoever_waits_hears_of_the_first_pod_and_not_of_those_it_avoids() -> None:
    routes = Routes()
    routes.put(a_slice("m", door=10000))
    routes.put(a_slice("m", pods=["10.0.0.1:8001"]))
    first = frozenset({"10.0.0.1:8001"})
    any_pod, another = asyncio.create_task(routes.served(M)), asyncio.create_task(routes.served(M, first))
    assert await any_pod == ("10.0.0.1:8001",)
    assert not another.done()
    routes.put(a_slice("m", pods=["10.0.0.1:8001", "10.0.0.2:8001"]))
    assert await another == ("10.0.0.2:8001",)


async def test_whoever_waits_hears_when_nothing_would_bring_a_pod_any_more() -> None:
    routes = Routes()
    routes.put(a_slice("m", door=10000))
    waiting = asyncio.create_task(routes.served(M))
    await asyncio.sleep(0)
    routes.remove(a_slice("m", door=10000))
    with pytest.raises(NoDoor):
        await waiting
