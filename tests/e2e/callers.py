"""Callers of models in the cluster, by the addresses of their Services: each call by a connection of its own."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from kubectl import Kubectl
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Caller:
    """Callers of one model."""

    address: str
    model: str

    @classmethod
    def of(cls, kubectl: Kubectl, namespace: str, model: str) -> Caller:
        """Of the model's Service."""
        service = kubectl.get("service", model, namespace)
        assert service is not None
        return cls(f"{service['spec']['clusterIP']}:8001", model)

    async def complete(
        self, text: str = "The sea is", max_tokens: int = 8, metadata: Metadata = (), *, patient: bool = False
    ) -> str:
        """The completion; AioRpcError when there is none. Who is `patient` waits until the node leads anywhere."""
        async with self._channel() as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            request = self._request(text, max_tokens)
            answer = await stub.ModelInfer(request, timeout=180, metadata=metadata, wait_for_ready=patient)
        return _text(answer)

    async def stream(self, text: str = "The sea is", max_tokens: int = 64, timeout: float = 180) -> list[str]:
        """The pieces of a streamed completion."""
        request = self._request(text, max_tokens)
        request.inputs.add(name="stream", datatype="BOOL", shape=[1])
        request.raw_input_contents.append(b"\x01")

        async def requests() -> AsyncIterator[pb.ModelInferRequest]:
            yield request

        pieces = []
        async with self._channel() as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            async for answer in stub.ModelStreamInfer(requests(), timeout=timeout):
                assert not answer.error_message, answer.error_message
                pieces.append(_text(answer.infer_response))
        return pieces

    async def ready(self) -> bool:
        """What is said to whoever asks whether the model is ready."""
        async with self._channel() as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            return bool((await stub.ModelReady(pb.ModelReadyRequest(name=self.model), timeout=10)).ready)

    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=(("grpc.use_local_subchannel_pool", 1),))

    def _request(self, text: str, max_tokens: int) -> pb.ModelInferRequest:
        request = pb.ModelInferRequest(model_name=self.model)
        sampling = json.dumps({"temperature": 0, "max_tokens": max_tokens, "ignore_eos": True})
        for name, value in {"text_input": text.encode(), "sampling_parameters": sampling.encode()}.items():
            request.inputs.add(name=name, datatype="BYTES", shape=[1])
            request.raw_input_contents.append(struct.pack("<I", len(value)) + value)
        return request


def _text(answer: pb.ModelInferResponse) -> str:
    index = [output.name for output in answer.outputs].index("text_output")
    return bytes(answer.raw_output_contents[index][4:]).decode()


@dataclass
class Traffic:
    """What came of calls."""

    answers: list[list[str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@asynccontextmanager
async def traffic(caller: Caller, callers: int, max_tokens: int) -> AsyncIterator[Traffic]:
    """While so many callers stream one completion after another; at the end the last ones are waited for."""
    seen, stopping = Traffic(), asyncio.Event()

    async def call() -> None:
        while not stopping.is_set():
            try:
                seen.answers.append(await caller.stream(max_tokens=max_tokens))
            except (grpc.aio.AioRpcError, AssertionError) as error:
                seen.errors.append(str(error))

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
        try:
            yield seen
        finally:
            stopping.set()
