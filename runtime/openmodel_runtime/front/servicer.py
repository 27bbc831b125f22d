"""The Open Inference Protocol's service with Triton's extensions: all 20 methods, thin over plain code.

Health, metadata, statistics and repository answer here; a generation goes to `Inference`. What this server does not
offer is refused by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, NoReturn, TypeVar

import grpc

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_runtime.errors import InternalError, InvalidRequest, NotFound, RequestError, Unavailable, Unsupported
from openmodel_runtime.front import describe
from openmodel_runtime.front.back_pressure import Busy
from openmodel_runtime.front.inference import Inference
from openmodel_runtime.front.respond import message_of
from openmodel_runtime.front.statistics import Statistics
from openmodel_runtime.front.stream import GRPC_ERROR_KEY, InferStream
from openmodel_runtime.group.supervisor import RankSupervisor
from openmodel_runtime.telemetry.ended_request import Parent
from openmodel_telemetry.propagation import caller_of

Context = grpc.aio.ServicerContext[Any, Any]
Request = TypeVar("Request")
Response = TypeVar("Response")
Method = Callable[["InferenceServicer", Request, Context], Awaitable[Response]]

RETRY_KEY = "grpc-retry-pushback-ms"
"""Trailer with the milliseconds after which a client should try again; gRPC's own retries go by it."""
_LOAD_REFUSED = (
    "explicit model load / unload is not allowed: the model is loaded by whoever runs this server "
    "(in a cluster, its OpenModel)"
)


async def abort(context: Context, error: RequestError) -> NoReturn:
    """Ends the call with the error's status; one that passes by itself says when, in the words of gRFC A6."""
    retry = ((RETRY_KEY, str(error.retry_after_ms)),) if isinstance(error, Busy) else ()
    await context.abort(grpc.StatusCode[error.code], message_of(error), retry)
    raise AssertionError("abort returned")


def _translated(method: Method[Request, Response]) -> Method[Request, Response]:
    """Turns our errors into statuses, in one place."""

    @wraps(method)
    async def wrapped(self: InferenceServicer, request: Request, context: Context) -> Response:
        try:
            return await method(self, request, context)
        except RequestError as error:
            await abort(context, error)

    return wrapped


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """GRPCInferenceService for one model."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        card_license: str,
        inference: Inference,
        statistics: Statistics,
        rank: RankSupervisor,
        traces: bool = False,
    ) -> None:
        self._name = name
        self._version = version
        self._license = card_license
        self._inference = inference
        self._statistics = statistics
        self._rank = rank
        self._traces = traces
        self._streams: set[InferStream] = set()
        self._calls: set[asyncio.Task[Any]] = set()

    @property
    def ready(self) -> bool:
        """True when a request would be served."""
        try:
            return self._rank.client is not None and not self._inference.draining
        except Unavailable:
            return False

    async def drain(self) -> None:
        """Takes no new request; returns when the calls have ended that had one under way."""
        self._inference.draining = True
        for stream in self._streams:
            stream.drain()
        while self._calls:
            await asyncio.wait(self._calls)

    def _caller(self, context: Context) -> Parent:
        """Whoever called, as far as somebody is to be told of it."""
        return caller_of(context.invocation_metadata() or ()) if self._traces else None

    def _note_call(self) -> None:
        """Remembers the call until it has ended, its status sent and all."""
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    @_translated
    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """The front answers, so it is alive."""
        return pb.ServerLiveResponse(live=True)

    @_translated
    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """True once the model is loaded."""
        return pb.ServerReadyResponse(ready=self.ready)

    @_translated
    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """False for a model or version that is not here."""
        try:
            self._inference.check_model(request.name, request.version)
        except NotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self.ready)

    @_translated
    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        return describe.server_metadata()

    @_translated
    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Tensors."""
        self._inference.check_model(request.name, request.version)
        return describe.model_metadata(self._name, self._version)

    @_translated
    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """Configuration; UNAVAILABLE until the model is loaded."""
        self._inference.check_model(request.name, request.version)
        return describe.model_config(self._name, self._rank.loaded, self._license)

    @_translated
    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        """Statistics of this model, also when no name is given."""
        if request.name:
            self._inference.check_model(request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=[self._statistics.to_proto(self._name, self._version)])

    @_translated
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """The whole completion in one response."""
        self._note_call()
        parent = self._caller(context)
        async with aclosing(self._inference.responses(request, parent, streaming=False)) as responses:
            async for response in responses:
                return response.infer_response
        raise AssertionError("a generation ended without a response")

    async def ModelStreamInfer(  # type: ignore[override]  # grpc.aio also takes a coroutine that writes
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> None:
        """Generations on one call, interleaved."""
        self._note_call()
        metadata = context.invocation_metadata() or ()
        grpc_errors = any(key == GRPC_ERROR_KEY and value == "true" for key, value in metadata)
        stream = InferStream(self._inference, context.write, self._caller(context), grpc_errors=grpc_errors)
        self._streams.add(stream)
        try:
            if self._inference.draining:
                stream.drain()
            await stream.serve(requests)
        except RequestError as error:
            await abort(context, error)
        finally:
            self._streams.discard(stream)

    @_translated
    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """The one model; with `ready` only when it is."""
        ready = self.ready
        models = [describe.repository_index(self._name, self._version, ready)]
        return pb.RepositoryIndexResponse(models=models if ready or not request.ready else [])

    @_translated
    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Refused: callers do not decide what is loaded."""
        raise Unavailable(_LOAD_REFUSED)

    @_translated
    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Refused: callers do not decide what is loaded."""
        raise Unavailable(_LOAD_REFUSED)

    @_translated
    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """No region is ever registered."""
        if request.name:
            raise NotFound(f"Unable to find system shared memory region: '{request.name}'")
        return pb.SystemSharedMemoryStatusResponse()

    @_translated
    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Not offered: a caller and a pod share no memory. Code and words are Triton's for an absent region."""
        raise InternalError(
            f"Unable to open shared memory region: '{request.key}': shared memory is not offered, send tensors in the "
            "request"
        )

    @_translated
    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Nothing is registered, so nothing remains registered."""
        return pb.SystemSharedMemoryUnregisterResponse()

    @_translated
    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """No region is ever registered."""
        if request.name:
            raise NotFound(f"Unable to find cuda shared memory region: '{request.name}'")
        return pb.CudaSharedMemoryStatusResponse()

    @_translated
    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Not offered: a caller and a pod share no memory."""
        if not request.name or not request.raw_handle or not request.byte_size:
            raise InvalidRequest(f"failed to register shared memory region '{request.name}': invalid args")
        raise Unsupported("cuda shared memory is not offered: send tensors in the request")

    @_translated
    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Nothing is registered, so nothing remains registered."""
        return pb.CudaSharedMemoryUnregisterResponse()

    @_translated
    async def TraceSetting(self, request: pb.TraceSettingRequest, context: Context) -> pb.TraceSettingResponse:
        """What is traced is set where the server is set up, not by callers."""
        if request.model_name:
            self._inference.check_model(request.model_name, "")
        if any(setting.value for setting in request.settings.values()):
            raise Unsupported("trace settings are not changed by callers: see spec.telemetry of the OpenModel")
        off = pb.TraceSettingResponse.SettingValue(value=["OFF"])
        return pb.TraceSettingResponse(settings={"trace_level": off})

    @_translated
    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """What is logged is set where the server is set up, not by callers."""
        if request.settings:
            raise Unsupported("log settings are not changed by callers")
        value = pb.LogSettingsResponse.SettingValue
        return pb.LogSettingsResponse(
            settings={
                "log_info": value(bool_param=True),
                "log_warning": value(bool_param=True),
                "log_error": value(bool_param=True),
                "log_verbose_level": value(uint32_param=0),
            }
        )
