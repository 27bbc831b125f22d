"""Responses: a tensor for each wanted output, an element for each completion."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.front.completion import Piece
from openmodel_runtime.front.parse import InferRequest
from openmodel_runtime.front.respond import Responder
from openmodel_runtime.front.sampling_parameters import parse_sampling
from openmodel_runtime.request import TokenLogprob, TokenOutput


def token(number: int, logprob: float | None = -0.5, *top: tuple[int, float]) -> TokenOutput:
    likeliest = tuple(TokenLogprob(*each) for each in top)
    return TokenOutput(request_id=1, token=number, logprob=logprob, top_logprobs=likeliest)


def respond(
    outputs: Sequence[str], pieces: Sequence[Piece], *, streaming: bool = True, logprobs: int | None = None
) -> pb.ModelInferResponse:
    parsed = InferRequest(
        prompt="",
        sampling=parse_sampling({"n": len(pieces), "logprobs": logprobs}, {}),
        stream=streaming,
        echo_prompt=False,
        outputs=tuple(outputs),
        timeout_seconds=None,
    )
    request = pb.ModelInferRequest(id="7")
    responder = Responder(request, "m", "r", parsed, "<{}>".format, streaming=streaming)
    first, second = (responder.response(pieces, 9).infer_response for _ in range(2))
    assert first == second, "a responder remembers nothing of the response before"
    return first


def tensors(response: pb.ModelInferResponse) -> dict[str, tuple[str, list[int], list[Any]]]:
    return {
        output.name: (output.datatype, list(output.shape), list(_elements(output.datatype, raw)))
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _elements(datatype: str, raw: bytes) -> Sequence[Any]:
    if datatype != "BYTES":
        return struct.unpack(f"<{len(raw) // 4}{ {'UINT32': 'I', 'INT32': 'i', 'FP32': 'f'}[datatype] }", raw)
    elements = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        elements.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return elements


def test_every_output_of_two_completions() -> None:
    pieces = [
        Piece(text="é", num_tokens=2, finish_reason="stop", stop_reason="x", cumulative_logprob=-1.5),
        Piece(),
    ]
    names = [
        *("text_output", "finish_reason", "stop_reason", "num_input_tokens", "num_output_tokens"),
        *("cumulative_logprob", "cum_log_probs", "batch_index", "sequence_index"),
    ]
    assert tensors(respond(names, pieces)) == {
        "text_output": ("BYTES", [2], ["é", ""]),
        "finish_reason": ("BYTES", [2], ["stop", ""]),
        "stop_reason": ("BYTES", [2], ["x", ""]),
        "num_input_tokens": ("UINT32", [1], [9]),
        "num_output_tokens": ("UINT32", [2], [2, 0]),
        "cumulative_logprob": ("FP32", [2], [-1.5, 0.0]),
        "cum_log_probs": ("FP32", [2], [-1.5, 0.0]),
        "batch_index": ("INT32", [1], [0]),
        "sequence_index": ("INT32", [2], [0, 1]),
    }


def test_a_response_is_its_requests_and_of_this_model() -> None:
    response = respond(["text_output"], [Piece()])
    assert (response.id, response.model_name, response.model_version) == ("7", "m", "r")


@pytest.mark.parametrize(("reasons", "final"), [(["", ""], False), (["stop", ""], False), (["stop", "length"], True)])
def test_a_stream_is_final_once_all_completions_have_ended(reasons: list[str], final: bool) -> None:
    pieces = [Piece(finish_reason=reason) for reason in reasons]
    assert respond(["text_output"], pieces).parameters["triton_final_response"].bool_param == final
    assert not respond(["text_output"], pieces, streaming=False).parameters


def test_logprobs_are_vllms_json() -> None:
    piece = Piece(num_tokens=2, logprobs=(token(5, -0.5, (5, -0.5), (6, -1.5)), token(7, -4.5, (5, -0.25), (8, -1.0))))
    _, shape, (told,) = tensors(respond(["logprobs"], [piece], logprobs=2))["logprobs"]
    assert shape == [1]
    assert json.loads(told) == [
        {
            "5": {"logprob": -0.5, "rank": 1, "decoded_token": "<5>"},
            "6": {"logprob": -1.5, "rank": 2, "decoded_token": "<6>"},
        },
        {
            "7": {"logprob": -4.5, "rank": None, "decoded_token": "<7>"},
            "5": {"logprob": -0.25, "rank": 1, "decoded_token": "<5>"},
            "8": {"logprob": -1.0, "rank": 2, "decoded_token": "<8>"},
        },
    ]
    # The chosen token comes first, however likely it was.
    assert next(iter(json.loads(told)[1])) == "7"


def test_an_impossible_token_is_json_all_the_same() -> None:
    piece = Piece(logprobs=(token(5, -math.inf, (6, 0.0), (7, -math.inf)),))
    (told,) = tensors(respond(["logprobs"], [piece], logprobs=2))["logprobs"][2]
    assert "Infinity" not in told
    assert json.loads(told)[0]["5"]["logprob"] == -9999.0


def test_without_the_sampling_parameter_logprobs_are_null() -> None:
    """As vLLM's backend has it: return_logprobs alone asks for nothing."""
    pieces = [Piece(logprobs=(token(5),)), Piece()]
    assert tensors(respond(["logprobs"], pieces))["logprobs"] == ("BYTES", [2], ["null", "null"])
    (first, second) = tensors(respond(["logprobs"], pieces, logprobs=0))["logprobs"][2]
    assert (list(json.loads(first)[0]), json.loads(second)) == (["5"], [])


def test_output_log_probs_is_a_row_for_each_completion() -> None:
    pieces = [Piece(logprobs=(token(5, -0.5), token(6, -0.25))), Piece(), Piece(logprobs=(token(7, -2.0),))]
    datatype, shape, values = tensors(respond(["output_log_probs"], pieces))["output_log_probs"]
    assert (datatype, shape, values) == ("FP32", [3, 2], [-0.5, -0.25, 0.0, 0.0, -2.0, 0.0])
    assert tensors(respond(["output_log_probs"], [Piece()]))["output_log_probs"] == ("FP32", [1, 0], [])
