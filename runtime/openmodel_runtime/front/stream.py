"""One ModelStreamInfer call: any number of requests, their responses as they come.

A request that fails does not end the stream: its error carries its id and the final flag, and the others go on. With
`triton_grpc_error: true` in the call's metadata the first error ends the call with its status instead. When the server
drains, the call ends once nothing is under way, for its sender may never be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import InvalidRequest, RequestError, Unavailable
from openmodel_runtime.front.inference import DRAINING, Inference
from openmodel_runtime.front.respond import empty_response, mark_final, message_of
from openmodel_runtime.telemetry.ended_request import Parent

GRPC_ERROR_KEY = "triton_grpc_error"
# Requests of one call that may be under way; beyond, the call is not read, which holds up its sender alone.
_MAX_UNDER_WAY = 4096

Write = Callable[[pb.ModelStreamInferResponse], Awaitable[None]]


class InferStream:
    """Serves one call."""

    def __init__(self, inference: Inference, write: Write, parent: Parent = None, *, grpc_errors: bool) -> None:
        self._parent = parent
        self._inference = inference
        self._write = write
        self._grpc_errors = grpc_errors
        # One writer at a time; a slow reader holds up this call's generations and nobody else's.
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(_MAX_UNDER_WAY)
        self._serving: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._draining = False
        self._error: RequestError | None = None

    async def serve(self, requests: AsyncIterator[pb.ModelInferRequest]) -> None:
        """Reads until the sender is done, and ends when every request has ended; RequestError is the call's status."""
        async with asyncio.TaskGroup() as group:
            self._reading = group.create_task(self._read(requests, group))
            self._end_if_drained()
        if self._error is not None:
            raise self._error
        if self._reading.cancelled():
            raise Unavailable(DRAINING)

    def drain(self) -> None:
        """Ends the call once nothing is under way; what still comes is refused like any other request."""
        self._draining = True
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._draining and not self._serving and self._reading is not None:
            self._reading.cancel()

    def _fail(self, error: RequestError) -> None:
        """Ends the whole call with this error, the first one.

        A response that is being written is not given up: gRPC takes no status while it waits for a slow reader, and
        the caller would never hear of the end.
        """
        if self._error is None:
            self._error = error
            for task in {*self._serving, self._reading} - {self._writer, asyncio.current_task()}:
                if task is not None:
                    task.cancel()

    async def _read(self, requests: AsyncIterator[pb.ModelInferRequest], group: asyncio.TaskGroup) -> None:
        try:
            async for request in _parsed(requests):
                await self._slots.acquire()
                task = group.create_task(self._serve_one(request))
                self._serving.add(task)
                task.add_done_callback(self._served)
        except RequestError as error:
            self._fail(error)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._slots.release()
        self._end_if_drained()

    async def _serve_one(self, request: pb.ModelInferRequest) -> None:
        try:
            async with aclosing(self._inference.responses(request, self._parent, streaming=True)) as responses:
                async for response in responses:
                    await self._send(response)
                    if self._error is not None:
                        return
        except RequestError as error:
            if self._grpc_errors:
                self._fail(error)
                return
            refusal = empty_response(request, request.model_name, request.model_version)
            mark_final(refusal, True)
            await self._send(pb.ModelStreamInferResponse(error_message=message_of(error), infer_response=refusal))

    async def _send(self, message: pb.ModelStreamInferResponse) -> None:
        async with self._writing:
            self._writer = asyncio.current_task()
            try:
                await self._write(message)
            finally:
                self._writer = None


async def _parsed(
    requests: AsyncIterator[pb.ModelInferRequest],
) -> AsyncIterator[pb.ModelInferRequest]:
    """The requests; a message that does not parse ends the call with InvalidRequest."""
    iterator = aiter(requests)
    while True:
        try:
            request = await anext(iterator)
        except StopAsyncIteration:
            return
        except Exception as error:  # grpc.aio passes on whatever the deserializer raised
            raise InvalidRequest(f"a message of the stream is no ModelInferRequest: {error}") from None
        yield request
