"""Asks our runtime for a round through gRPC, at the least cost: the client runs on the cores that serve.

One ModelStreamInfer call for each stream on one connection, as so many callers behind one proxy would. While the round
runs, responses are kept as bytes with their times; they are read when it is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from bench.measure.runtime import MODEL
from bench.measure.timeline import Arrival, Round, summarize
from openmodel_protos import grpc_service_pb2 as pb

Infer = grpc.aio.StreamStreamMultiCallable[bytes, bytes]
_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass(frozen=True, slots=True)
class RuntimeRound:
    """Our figures and our answers."""

    figures: Round
    texts: list[str]


def run_round(address: str, prompts: Sequence[str], max_tokens: int) -> RuntimeRound:
    """All prompts at once, every answer to its end."""
    requests = [infer_request(prompt, max_tokens).SerializeToString() for prompt in prompts]
    began, streams = asyncio.run(_all(address, requests))
    answers = [[(when, *tokens_and_text(raw)) for when, raw in stream] for stream in streams]
    arrivals = [_arrivals(answer) for answer in answers]
    figures = summarize(began, arrivals)
    if figures.tokens != len(prompts) * max_tokens:
        raise RuntimeError(f"the runtime gave {figures.tokens} tokens instead of {len(prompts) * max_tokens}")
    return RuntimeRound(figures, ["".join(text for _, _, text in answer) for answer in answers])


def _arrivals(answer: Sequence[tuple[float, int, str]]) -> list[Arrival]:
    return [(when, tokens) for when, tokens, _ in answer if tokens]


async def _all(address: str, requests: Sequence[bytes]) -> tuple[float, list[list[tuple[float, bytes]]]]:
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        # Without serializers: bytes in, bytes out.
        infer: Infer = channel.stream_stream(_METHOD)
        began = time.perf_counter()
        return began, await asyncio.gather(*(_one(infer, request) for request in requests))


async def _one(infer: Infer, request: bytes) -> list[tuple[float, bytes]]:
    call = infer()
    await call.write(request)
    await call.done_writing()
    now = time.perf_counter
    return [(now(), response) async for response in call]


def infer_request(prompt: str, max_tokens: int) -> pb.ModelInferRequest:
    """A streamed completion of exactly so many tokens."""
    request = pb.ModelInferRequest(model_name=MODEL)
    sampling = {"temperature": 0, "max_tokens": max_tokens, "ignore_eos": True}
    for name, text in (("text_input", prompt), ("sampling_parameters", json.dumps(sampling))):
        request.inputs.add(name=name, datatype="BYTES", shape=[1]).contents.bytes_contents.append(text.encode())
    for name in ("stream", "return_num_output_tokens"):
        request.inputs.add(name=name, datatype="BOOL", shape=[1]).contents.bool_contents.append(True)
    return request


def tokens_and_text(raw: bytes) -> tuple[int, str]:
    """Of a response; RuntimeError when it is an error."""
    message = pb.ModelStreamInferResponse.FromString(raw)
    if message.error_message:
        raise RuntimeError(f"the runtime answered with an error: {message.error_message}")
    response = message.infer_response
    values = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=True))
    if "num_output_tokens" not in values:
        return 0, ""
    # A text has its length before it.
    return int.from_bytes(values["num_output_tokens"], "little"), values["text_output"][4:].decode(errors="replace")
