"""What the router does with calls whose pods are lost, busy or refuse, and with callers that give up."""

from __future__ import annotations

import asyncio

import grpc

from router_parts import (
    HOST,
    Context,
    Pod,
    a_request,
    a_router,
    a_slice,
    failure,
    free_port,
    opened,
)

M = ("default", "m")


async def test_a_call_whose_pod_is_lost_before_it_answers_is_sent_again_and_after_that_it_is_not() -> None:
    async with a_router() as router:
        bad, good = Pod("bad"), Pod("good")

        async def lost(context: Context) -> None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

        bad.fails = lost
        (port,) = await opened(router, "m")
        stub = router.stub(port)
        nowhere = f"{HOST}:{free_port()}"
        router.routes.put(a_slice("m", name="m-1", pods=[nowhere]))
        # Nobody listens there: the call waits on, whatever its size, until there is somebody.
        call = stub.ModelInfer(a_request("a", b"x" * 100_000), timeout=60)
        large = stub.ModelInfer(a_request("b", b"x" * 3_000_000), timeout=60)
        router.routes.put(a_slice("m", name="m-2", pods=[await router.start_pod(bad)]))
        router.routes.put(a_slice("m", name="m-3", pods=[await router.start_pod(good)]))
        answer = await call
        assert (answer.model_name, len(answer.raw_output_contents[0])) == ("good", 100_000)
        large.cancel()
        # A stream that has begun to be answered ends as its pod's did.
        router.routes.remove(a_slice("m", name="m-1"))
        router.routes.remove(a_slice("m", name="m-3"))
        stream = stub.ModelStreamInfer()
        await stream.write(a_request("1"))
        assert (await stream.read()).infer_response.id == "1/0"
        broken = await failure(stream.read())
        assert (broken.code(), broken.details()) == (grpc.StatusCode.UNAVAILABLE, "gone")


async def test_a_large_call_is_not_read_before_there_is_somebody_to_send_it_to() -> None:
    async with a_router() as router:
        good = Pod("good")
        (port,) = await opened(router, "m")
        router.routes.put(a_slice("m", name="m-1", pods=[f"{HOST}:{free_port()}"]))
        call = router.stub(port).ModelInfer(a_request("a", b"x" * 3_000_000), timeout=60)
        router.routes.put(a_slice("m", name="m-2", pods=[await router.start_pod(good)]))
        assert len((await call).raw_output_contents[0]) == 3_000_000


async def test_a_pod_that_has_too_much_to_do_is_asked_again_when_it_said_so_and_another_before() -> None:
    async with a_router() as router:
        busy, free = Pod("busy"), Pod("free")
        refusals: list[Context] = []

        async def refuse(context: Context) -> None:
            if len(refusals) < 2:
                refusals.append(context)
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", (("grpc-retry-pushback-ms", "50"),))

        busy.fails = refuse
        (port,) = await opened(router, "m")
        stub = router.stub(port)
        router.routes.put(a_slice("m", name="m-1", pods=[await router.start_pod(busy)]))
        assert (await stub.ModelInfer(a_request("a"), timeout=60)).model_name == "busy"
        assert len(refusals) == 2
        refusals.clear()
        router.routes.put(a_slice("m", name="m-2", pods=[await router.start_pod(free)]))
        answers = await asyncio.gather(*(stub.ModelInfer(a_request("a"), timeout=60) for _ in range(8)))
        assert len(answers) == 8


async def test_what_the_pod_refuses_is_told_as_it_was_said() -> None:
    async with a_router() as router:
        pod = Pod("m")

        async def refuse(context: Context) -> None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "temperature: no", (("why", "because"),))

        pod.fails = refuse
        (port,) = await opened(router, "m")
        router.routes.put(a_slice("m", pods=[await router.start_pod(pod)]))
        refused = await failure(router.stub(port).ModelInfer(a_request()))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "temperature: no")
        assert dict(refused.trailing_metadata())["why"] == "because"
        assert len(pod.got) == 1


async def test_a_caller_that_gives_up_ends_the_call_at_the_pod() -> None:
    async with a_router() as router:
        pod = Pod("m")
        pod.may_go_on.clear()
        (port,) = await opened(router, "m")
        router.routes.put(a_slice("m", pods=[await router.start_pod(pod)]))
        late = await failure(router.stub(port).ModelInfer(a_request(), timeout=0.5))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(pod.cancelled.wait(), 10)
