"""One call on its way: held until a pod can take it, passed on message by message, and sent again when a pod is lost.

Messages are bytes and stay so. A call is sent again only while nothing of an answer has come: the caller then sees one
call, which took longer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_router.caller import Caller, Context, Memory
from openmodel_router.holding import RETRY_SECONDS, Full, Holding
from openmodel_router.metrics import RouterMetrics
from openmodel_router.pod_channels import PodChannels
from openmodel_router.routes import Model, NoDoor, Routes
from openmodel_router.spans import CallSpan
from openmodel_telemetry.providers import Telemetry

_RETRY_KEY = "grpc-retry-pushback-ms"
# A pod that lost a call is left alone for a moment: it may be gone, with its address still told.
_AVOID_SECONDS = 1.0
# What a pod says of other methods it means.
_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_ASKS = (f"/{_SERVICE}/ModelInfer", f"/{_SERVICE}/ModelStreamInfer")
_MOST_ATTEMPTS = 6
_AGAIN_SECONDS = 0.2
_LATER = random.SystemRandom()


class _Lost(Exception):
    """A pod was lost, or had too much to do, before it answered anything."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(error.details())
        self.error = error

    @property
    def pause(self) -> float:
        """Seconds that the pod itself asked for; some of them more, so that not all come back at once."""
        told = dict(self.error.trailing_metadata() or ()).get(_RETRY_KEY, "0")
        return int(told) / 1000 * _LATER.uniform(1.0, 1.5) if str(told).isdecimal() else 0.0


@dataclass(frozen=True, kw_only=True)
class Passing:
    """Passes calls of any model and method on."""

    routes: Routes
    holding: Holding
    channels: PodChannels
    metrics: RouterMetrics
    telemetry: Telemetry
    memory: Memory
    hold_seconds: float
    """How long a call without a deadline is held."""

    async def call(self, model: Model, method: str, context: Context) -> None:
        """One call, to its end."""
        caller, span = Caller(context, self.memory), CallSpan(self.telemetry, model, method, context)
        error: str | None = "CANCELLED"
        try:
            await self._pass(model, method, caller, span, context)
            error = None
        except grpc.aio.AbortError:
            error = _status(context)
            raise
        finally:
            span.end(error)
            caller.close()

    async def _pass(self, model: Model, method: str, caller: Caller, span: CallSpan, context: Context) -> None:
        avoided: frozenset[str] = frozenset()
        for attempt in range(_MOST_ATTEMPTS):
            pod = await self._pod(model, context, span, avoided, again=attempt > 0)
            try:
                with self.channels.channel(pod) as channel:
                    await self._attempt(channel, method, caller, span, context)
                return
            except _Lost as lost:
                if not caller.repeats or attempt == _MOST_ATTEMPTS - 1:
                    await _end(context, lost.error)
                pause = max(lost.pause, _AGAIN_SECONDS * attempt)
            self.metrics.sent_again()
            span.sent_again()
            avoided = frozenset({pod})
            await asyncio.sleep(pause)

    async def _pod(
        self, model: Model, context: Context, span: CallSpan, avoided: frozenset[str], *, again: bool
    ) -> str:
        """A pod that takes the call, once there is one."""
        pods: Sequence[str] = [pod for pod in self.routes.pods(model) if pod not in avoided]
        if pods:
            return self.channels.least_loaded(pods)
        try:
            with self.holding.place(model, again=again), self.metrics.held(), span.waiting():
                pods = await self._served(model, context, avoided)
        except Full as full:
            self.metrics.refused()
            retry = ((_RETRY_KEY, str(round(RETRY_SECONDS * 1000))),)
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(full), retry)
        except NoDoor:
            told = f"{model[0]}/{model[1]} does not wake for calls any more: it is gone, suspended or scaled by hand"
            await _abort(context, grpc.StatusCode.UNAVAILABLE, told)
        except TimeoutError:
            told = f"no pod of {model[0]}/{model[1]} has become ready in {self.hold_seconds:.0f} s: its status says why"
            await _abort(context, grpc.StatusCode.UNAVAILABLE, told)
        return self.channels.least_loaded(pods)

    async def _served(self, model: Model, context: Context, avoided: frozenset[str]) -> Sequence[str]:
        remaining = context.time_remaining()
        # With a deadline gRPC ends the call itself.
        async with asyncio.timeout(self.hold_seconds if remaining is None else None):
            if not avoided:
                return await self.routes.served(model)
            try:
                async with asyncio.timeout(_AVOID_SECONDS):
                    return await self.routes.served(model, avoided)
            except TimeoutError:
                return await self.routes.served(model)

    async def _attempt(
        self, channel: grpc.aio.Channel, method: str, caller: Caller, span: CallSpan, context: Context
    ) -> None:
        call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(method)(
            timeout=context.time_remaining(), metadata=span.metadata
        )
        sending: asyncio.Task[None] | None = None
        answered = connected = False
        try:
            # What was sent stays unread, and can be sent to another, until there is somebody to send it to.
            await call.wait_for_connection()
            connected = True
            sending = asyncio.ensure_future(_send(call, caller))
            while isinstance(message := await call.read(), bytes):
                if not answered:
                    answered = True
                    caller.keep_no_more()
                    await context.send_initial_metadata(await call.initial_metadata())
                await context.write(message)
            code = await call.code()
            trailing = await call.trailing_metadata()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(code, await call.initial_metadata(), trailing, await call.details())
            context.set_trailing_metadata(trailing)
        except grpc.aio.AioRpcError as error:
            if not answered and (method in _ASKS or not connected) and _may_be_sent_again(error):
                raise _Lost(error) from None
            await _end(context, error)
        finally:
            if sending is not None:
                sending.cancel()
            call.cancel()


def _may_be_sent_again(error: grpc.aio.AioRpcError) -> bool:
    """Whether another pod, or the same one later, may answer: it was lost, or has too much to do just now."""
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # Without a time to come back it is the request that is too large.
        return _RETRY_KEY in dict(error.trailing_metadata() or ())
    # gRPC's Python says no more than that of a call that ended while it was written to.
    cut = error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"
    return cut or error.code() is grpc.StatusCode.UNAVAILABLE


async def _send(call: grpc.aio.StreamStreamCall[bytes, bytes], caller: Caller) -> None:
    index = 0
    try:
        while (message := await caller.message(index)) is not None:
            await call.write(message)
            index += 1
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # The call has ended; whoever reads its answers hears how.
        return


def _status(context: Context) -> str:
    """The name of the status that a call was ended with."""
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name


async def _end(context: Context, error: grpc.aio.AioRpcError) -> NoReturn:
    """Ends the caller's call as the pod's ended."""
    await _abort(context, error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))


async def _abort(context: Context, code: grpc.StatusCode, details: str, trailing: Any = ()) -> NoReturn:
    await context.abort(code, details, trailing)
    raise AssertionError("abort returns never")
