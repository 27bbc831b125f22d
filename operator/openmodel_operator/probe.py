"""What the operator asks a pod over gRPC: a greedy token, for real, as proof of Ready; golden prompts; how it is.

Knows protocols and an address; decides nothing.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc

from openmodel_operator import names
from openmodel_operator.golden_prompts import GoldenPrompt, GoldenPromptsError
from openmodel_operator.group_report import GroupReport
from openmodel_operator.observed import Proof
from openmodel_operator.scaling.load import PodLoad
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_protos import load_pb2 as load_pb
from openmodel_protos import load_pb2_grpc as load_pb_grpc

# A loaded model may still have a queue; a model that is wedged must not hold its key for ever.
_TIMEOUT_SECONDS = 30.0
_REPORT_TIMEOUT_SECONDS = 2.0
_PROMPT = b"Hello"
# Of a golden prompt: more than any model that people wait for takes.
_TOKEN_SECONDS = 0.25
# Asking again would not help.
_NEVER = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


async def prove(address: str, model: str, revision: str) -> Proof:
    """Asks the pod for one token of this revision; every failure becomes a Proof that says so."""
    async with _channel(address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        began = time.monotonic()
        try:
            response = await stub.ModelInfer(_one_token(model, revision), timeout=_TIMEOUT_SECONDS)
            seconds = time.monotonic() - began
            config = await stub.ModelConfig(
                pb.ModelConfigRequest(name=model, version=revision), timeout=_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            return Proof(ok=False, message=f"{error.code().name}: {error.details()}")
    if not response.raw_output_contents:
        return Proof(ok=False, message="the answer has no output")
    facts = {key: value.string_value for key, value in config.config.parameters.items()}
    return Proof(ok=True, seconds=seconds, facts=facts)


async def ask_group(address: str) -> GroupReport | None:
    """What the pod says of its group; None when it does not answer."""
    said = await _report(address)
    if said is None:
        return None
    return GroupReport(
        ranks=said.ranks,
        wanted_ranks=said.wanted_ranks,
        experts=said.experts,
        missing_experts=said.missing_experts,
        smallest_ranks=said.smallest_ranks,
        survives_process_loss=said.survives_process_loss,
        survives_pod_loss=said.survives_pod_loss,
        imbalance=said.imbalance,
        last_rebalance=said.last_rebalance,
    )


async def ask_load(address: str) -> PodLoad | None:
    """What the pod's ranks have to do; None when it does not answer, or has none."""
    said = await _report(address)
    if said is None or not said.HasField("requests"):
        return None
    load = said.requests
    return PodLoad(
        ranks=load.ranks,
        running=load.running,
        waiting=load.waiting,
        waiting_tokens=load.waiting_tokens,
        most_waiting_tokens=load.most_waiting_tokens,
        kv_cache_used=load.kv_cache_used,
        under_way=load.under_way,
        idle_seconds=load.idle_seconds,
        first_token_seconds=load.first_token_seconds if load.HasField("first_token_seconds") else None,
    )


async def _report(address: str) -> load_pb.LoadReport | None:
    async with _channel(address) as channel:
        try:
            return await load_pb_grpc.LoadStub(channel).Report(load_pb.LoadRequest(), timeout=_REPORT_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError:
            return None


async def complete(address: str, model: str, revision: str, prompt: GoldenPrompt) -> list[int]:
    """Token ids of a greedy answer; ConnectionError when there is none, GoldenPromptsError when there never will be."""
    request = _golden(model, revision, prompt)
    timeout = _TIMEOUT_SECONDS + prompt.max_tokens * _TOKEN_SECONDS
    async with _channel(address) as channel:
        try:
            response = await pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in _NEVER:
                raise GoldenPromptsError(f"key {prompt.name}: {error.code().name}: {error.details()}") from None
            raise ConnectionError(f"{error.code().name}: {error.details()}") from None
    try:
        outputs = [output.name for output in response.outputs]
        told = json.loads(response.raw_output_contents[outputs.index("logprobs")][4:])
        # The chosen token comes first.
        return [int(next(iter(token), "none")) for token in told]
    except (ValueError, TypeError, IndexError):
        raise ConnectionError("the answer has no token ids") from None


Prove = Callable[[str, str, str], Awaitable[Proof]]
"""Address, model and revision to a proof."""
AskGroup = Callable[[str], Awaitable[GroupReport | None]]
"""Address to what the pod says of its group."""
AskLoad = Callable[[str], Awaitable[PodLoad | None]]
"""Address to what the pod has to do."""
Complete = Callable[[str, str, str, GoldenPrompt], Awaitable[Sequence[int]]]
"""Address, model, revision and prompt to token ids; ConnectionError when there is no answer."""


@dataclass(frozen=True, slots=True)
class Probes:
    """All that pods are asked."""

    prove: Prove = prove
    ask_group: AskGroup = ask_group
    ask_load: AskLoad = ask_load
    complete: Complete = complete


def _channel(address: str) -> grpc.aio.Channel:
    host = f"[{address}]" if ":" in address else address
    return grpc.aio.insecure_channel(f"{host}:{names.GRPC_PORT}")


def _one_token(model: str, revision: str) -> pb.ModelInferRequest:
    inputs = {
        "text_input": _PROMPT,
        "sampling_parameters": json.dumps({"temperature": 0, "max_tokens": 1}).encode(),
    }
    return _request(model, revision, "readiness", inputs)


def _golden(model: str, revision: str, prompt: GoldenPrompt) -> pb.ModelInferRequest:
    sampling = {"temperature": 0, "max_tokens": prompt.max_tokens, "logprobs": 0}
    texts = {prompt.tensor: prompt.content.encode(), "sampling_parameters": json.dumps(sampling).encode()}
    request = _request(model, revision, "golden", texts)
    request.inputs.add(name="return_logprobs", datatype="BOOL", shape=[1])
    request.raw_input_contents.append(b"\x01")
    return request


def _request(model: str, revision: str, request_id: str, texts: Mapping[str, bytes]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, model_version=revision, id=request_id)
    for name, value in texts.items():
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(struct.pack("<I", len(value)) + value)
    return request
