"""One call on its way: held until a pod can take it, passed on message by message, and sent again when a pod is lost.

Messages are bytes and stay so. A call is sent again only while nothing of an answer has come: the caller then sees one
call, which took longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from openmodel_router.caller import Caller, Context
from openmodel_router.holding import RETRY_SECONDS, Full, Holding
from openmodel_router.pod_channels import PodChannels
from openmodel_router.routes import Model, Routes
from openmodel_router.telemetry.metrics import RouterMetrics

_RETRY_KEY = "grpc-retry-pushback-ms"
# Of gRPC's own, which the next hop makes anew.
_HOP_KEYS = ("user-agent", "content-type", "te", "grpc-timeout", "grpc-accept-encoding", "grpc-encoding")
# A pod that lost a call is left alone for a moment: it may be gone, with its address still told.
_AVOID_SECONDS = 1.0
_MOST_ATTEMPTS = 10
_AGAIN_SECONDS = 0.2


class _Lost(Exception):
    """A pod was lost before it answered anything."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(error.details())
        self.error = error


@dataclass(frozen=True, kw_only=True)
class Passing:
    """Passes calls of any model and method on."""

    routes: Routes
    holding: Holding
    channels: PodChannels
    metrics: RouterMetrics
    hold_seconds: float
    """How long a call without a deadline is held."""

    async def call(self, model: Model, method: str, context: Context) -> None:
        """One call, to its end."""
        caller = Caller(context)
        avoided: frozenset[str] = frozenset()
        try:
            for attempt in range(_MOST_ATTEMPTS):
                pod = await self._pod(model, context, avoided)
                try:
                    with self.channels.channel(pod) as channel:
                        await self._attempt(channel, method, caller, context)
                    return
                except _Lost as lost:
                    if not caller.repeats or attempt == _MOST_ATTEMPTS - 1:
                        await _end(context, lost.error)
                    self.metrics.sent_again()
                    avoided = frozenset({pod})
                    await asyncio.sleep(_AGAIN_SECONDS * attempt)
        finally:
            caller.close()

    async def _pod(self, model: Model, context: Context, avoided: frozenset[str]) -> str:
        """A pod that takes the call, once there is one."""
        pods: Sequence[str] = [pod for pod in self.routes.pods(model) if pod not in avoided]
        if pods:
            return self.channels.least_loaded(pods)
        try:
            with self.holding.place(model), self.metrics.held():
                pods = await self._served(model, context, avoided)
        except Full as full:
            self.metrics.refused()
            retry = ((_RETRY_KEY, str(round(RETRY_SECONDS * 1000))),)
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(full), retry)
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

    async def _attempt(self, channel: grpc.aio.Channel, method: str, caller: Caller, context: Context) -> None:
        metadata = tuple(
            (key, value) for key, value in context.invocation_metadata() or () if key.lower() not in _HOP_KEYS
        )
        call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(method)(
            timeout=context.time_remaining(), metadata=metadata
        )
        sending = asyncio.ensure_future(_send(call, caller))
        answered = False
        try:
            while isinstance(message := await call.read(), bytes):
                if not answered:
                    answered = True
                    caller.answered()
                    await context.send_initial_metadata(await call.initial_metadata())
                await context.write(message)
            code = await call.code()
            trailing = await call.trailing_metadata()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(code, await call.initial_metadata(), trailing, await call.details())
            context.set_trailing_metadata(trailing)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE and not answered:
                raise _Lost(error) from None
            await _end(context, error)
        finally:
            sending.cancel()
            call.cancel()


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


async def _end(context: Context, error: grpc.aio.AioRpcError) -> NoReturn:
    """Ends the caller's call as the pod's ended."""
    await _abort(context, error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))


async def _abort(context: Context, code: grpc.StatusCode, details: str, trailing: Any = ()) -> NoReturn:
    await context.abort(code, details, trailing)
    raise AssertionError("abort returns never")
