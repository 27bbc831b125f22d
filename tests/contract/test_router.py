"""The router over real gRPC: calls to models that sleep wait, reach the right pod unchanged, and none is lost."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from openmodel_operator.scaling.router_demand import RouterDemand
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from router_parts import (
    HOST,
    Pod,
    a_request,
    a_router,
    a_slice,
    failure,
    free_port,
    opened,
    until_held,
)

M = ("default", "m")


async def test_calls_wait_for_the_pod_and_reach_it_as_they_were_sent() -> None:
    async with a_router() as router:
        pod = Pod("m")
        (port,) = await opened(router, "m")
        text = bytes(range(256)) * 4096
        metadata = (("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"), ("x-bin", b"\x00\xff"))
        calls = [router.stub(port).ModelInfer(a_request("a", text), metadata=metadata, timeout=60) for _ in range(3)]
        await until_held(router, {"default/m": 3})
        assert not pod.got
        router.routes.put(a_slice("m", pods=[await router.start_pod(pod)]))
        answers = await asyncio.gather(*calls)
        await until_held(router, {})
        assert [answer.raw_output_contents[0] for answer in answers] == [text] * 3
        assert set(metadata) <= set(pod.metadata)
        assert pod.remaining is not None
        assert 0 < pod.remaining <= 60
        assert dict(await calls[0].trailing_metadata())["cost"] == "7"
        # Now that it is awake a call is passed on at once.
        assert (await router.stub(port).ModelInfer(a_request("b"))).id == "b/0"


async def test_a_stream_goes_both_ways_message_by_message() -> None:
    async with a_router() as router:
        pod = Pod("m")
        (port,) = await opened(router, "m")
        router.routes.put(a_slice("m", pods=[await router.start_pod(pod)]))
        call = router.stub(port).ModelStreamInfer()
        pod.may_go_on.clear()
        await call.write(a_request("2", b"x" * 3_000_000))
        # The first answer is here before the second was made.
        first = await call.read()
        assert (first.infer_response.id, len(first.infer_response.raw_output_contents[0])) == ("2/0", 3_000_000)
        pod.may_go_on.set()
        assert (await call.read()).infer_response.id == "2/1"
        await call.write(a_request("1"))
        assert (await call.read()).infer_response.id == "1/0"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_five_hundred_held_calls_to_five_models_in_two_namespaces_each_reach_their_own() -> None:
    async with a_router() as router:
        models = [("one", "a"), ("one", "b"), ("two", "a"), ("two", "b"), ("two", "c")]
        ports = [free_port() for _ in models]
        for (namespace, name), port in zip(models, ports, strict=True):
            router.routes.put(a_slice(name, namespace=namespace, door=port))
        stubs = [router.stub(port) for port in ports]
        calls = [
            stubs[number % 5].ModelInfer(a_request(str(number)), timeout=120, wait_for_ready=True)
            for number in range(500)
        ]
        await until_held(router, {f"{namespace}/{name}": 100 for namespace, name in models})
        for namespace, name in models:
            pod = await router.start_pod(Pod(f"{namespace}/{name}"))
            router.routes.put(a_slice(name, namespace=namespace, pods=[pod]))
        answers = await asyncio.gather(*calls)
        assert [(answer.model_name, answer.id) for answer in answers] == [
            ("/".join(models[number % 5]), f"{number}/0") for number in range(500)
        ]


async def test_more_than_may_be_held_are_refused_with_a_time_to_come_back() -> None:
    async with a_router(max_held_calls_per_model=2) as router:
        ports = await opened(router, "m", "n")
        stubs = [router.stub(port) for port in ports]
        waiting = [stubs[0].ModelInfer(a_request()) for _ in range(2)]
        await until_held(router, {"default/m": 2})
        refused = await failure(stubs[0].ModelInfer(a_request()))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 calls wait for the model already" in (refused.details() or "")
        assert dict(refused.trailing_metadata())["grpc-retry-pushback-ms"] == "2000"
        # Another model has places of its own.
        waiting.append(stubs[1].ModelInfer(a_request()))
        await until_held(router, {"default/m": 2, "default/n": 1})
        for call in waiting:
            call.cancel()
        await until_held(router, {})


async def test_a_call_waits_within_its_deadline_and_without_one_within_ours() -> None:
    async with a_router(hold_seconds=0.2) as router:
        (port,) = await opened(router, "m")
        late = await failure(router.stub(port).ModelInfer(a_request(), timeout=0.1))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        endless = await failure(router.stub(port).ModelInfer(a_request()))
        assert endless.code() is grpc.StatusCode.UNAVAILABLE
        assert "no pod of default/m has become ready" in (endless.details() or "")
        await until_held(router, {})


async def test_held_calls_of_a_model_that_does_not_wake_any_more_end() -> None:
    async with a_router() as router:
        (port,) = await opened(router, "m")
        call = router.stub(port).ModelInfer(a_request(), timeout=60)
        await until_held(router, {"default/m": 1})
        router.routes.remove(a_slice("m", door=port))
        ended = await failure(call)
        assert ended.code() is grpc.StatusCode.UNAVAILABLE
        assert "does not wake for calls any more" in (ended.details() or "")


@pytest.mark.parametrize("answers", [True, False])
async def test_whether_a_sleeping_model_is_there_is_answered_without_waking_it(answers: bool) -> None:
    async with a_router() as router:
        (port,) = await opened(router, "m", answers=answers)
        stub, health = router.stub(port), health_pb2_grpc.HealthStub(router.channel(port))
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready is answers
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="m"))).ready is answers
        said = await health.Check(health_pb2.HealthCheckRequest())
        assert said.status == (1 if answers else 2)
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="n"))).ready
        other = await failure(health.Check(health_pb2.HealthCheckRequest(service="n")))
        assert other.code() is grpc.StatusCode.NOT_FOUND
        watched = await failure(health.Watch(health_pb2.HealthCheckRequest()).read())
        assert watched.code() is grpc.StatusCode.UNIMPLEMENTED
        await until_held(router, {})


async def test_a_clients_connection_is_closed_at_its_age_so_that_the_next_call_goes_by_the_service() -> None:
    async with a_router(connection_seconds=0.3) as router:
        pod = Pod("m")
        (port,) = await opened(router, "m")
        router.routes.put(a_slice("m", pods=[await router.start_pod(pod)]))
        channel = router.channel(port)
        await closed(channel)
        # A call under way outlives its connection's age.
        pod.may_go_on.clear()
        call = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(a_request("a"), timeout=60)
        await closed(channel)
        assert len(pod.got) == 1
        pod.may_go_on.set()
        assert (await call).id == "a/0"


async def closed(channel: grpc.aio.Channel) -> None:
    """Returns once a connection of the channel was there and takes no new calls."""
    async with asyncio.timeout(30):
        await channel.channel_ready()
        while (state := channel.get_state()) is grpc.ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)


async def test_the_operator_hears_what_is_held_and_forgets_what_a_router_that_went_has_held() -> None:
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    async with a_router() as router:
        (port,) = await opened(router, "m")
        routers = [HOST]
        demand = RouterDemand(lambda: routers, heard.put_nowait, router.settings.control_port)
        listening = asyncio.create_task(demand.run())
        calls = [asyncio.ensure_future(router.stub(port).ModelInfer(a_request())) for _ in range(2)]
        assert await asyncio.wait_for(heard.get(), 30) == M
        await until_held(router, {"default/m": 2})
        async with asyncio.timeout(30):
            while demand.held(M) != 2:
                await asyncio.sleep(0.01)
        routers.clear()
        assert await asyncio.wait_for(heard.get(), 30) == M
        assert demand.held(M) == 0
        routers.append(HOST)
        assert await asyncio.wait_for(heard.get(), 30) == M
        for call in calls:
            call.cancel()
        assert await asyncio.wait_for(heard.get(), 30) == M
        assert demand.held(M) == 0
        listening.cancel()
        await asyncio.gather(listening, *calls, return_exceptions=True)
