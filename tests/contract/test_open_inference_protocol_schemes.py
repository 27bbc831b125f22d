"""The three naming schemes through tritonclient: the same generation, whichever names it is asked for with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from contract.infer_requests import GREEDY, LONG, MODEL, PROMPT, request, text_of, typed_inputs, value
from contract.runtime_server import LIMIT_SECONDS, RuntimeServer
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
TOKENS = 12
TEXT = ("BYTES", PROMPT.encode())
# Greedy and never ending before its last token, in the words of each scheme; what that asks of the model is GREEDY.
TENSORRT_LLM: Mapping[str, Any] = {
    "text_input": TEXT,
    "max_tokens": ("INT32", TOKENS),
    "temperature": ("FP32", 0.0),
    "end_id": ("INT32", -1),
    # Its own clients send these whether they mean them or not.
    "bad_words": ("BYTES", [b""]),
    "stop_words": ("BYTES", [b""]),
    "beam_width": ("INT32", 1),
    "pad_id": ("INT32", 2),
}
LLM_API: Mapping[str, Any] = {
    "text_input": TEXT,
    "sampling_param_max_tokens": ("INT32", TOKENS),
    "sampling_param_temperature": ("FP32", 0.0),
    "sampling_param_ignore_eos": ("BOOL", True),
}


@pytest.fixture
def client(server: RuntimeServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.address) as client:
        yield client


@pytest.fixture
def expected(stub: Stub) -> str:
    return text_of(stub.ModelInfer(request(sampling={**GREEDY, "max_tokens": TOKENS})))


def streamed_texts(client: triton.InferenceServerClient, inputs: Mapping[str, Any]) -> list[str]:
    """The pieces of text of a stream's one request."""
    results: list[triton.InferResult] = []
    errors: list[InferenceServerException] = []
    client.start_stream(lambda result, error: errors.append(error) if error else results.append(result))
    client.async_stream_infer(MODEL, typed_inputs(inputs))
    client.stop_stream()
    assert errors == []
    assert results[-1].get_response().parameters["triton_final_response"].bool_param
    return [result.as_numpy("text_output")[0].decode() for result in results]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("names", [TENSORRT_LLM, LLM_API])
def test_the_same_text_with_other_names(
    client: triton.InferenceServerClient, expected: str, names: Mapping[str, Any], batch: bool
) -> None:
    result = client.infer(MODEL, typed_inputs(names, batch), client_timeout=LIMIT_SECONDS)
    assert result.as_numpy("text_output").tolist() == [expected.encode()]


@pytest.mark.parametrize(("names", "flag"), [(TENSORRT_LLM, "stream"), (LLM_API, "streaming")])
def test_the_same_stream_with_other_names(
    client: triton.InferenceServerClient, stub: Stub, names: Mapping[str, Any], flag: str
) -> None:
    """With as many tokens as are in no one response."""
    limit = "max_tokens" if flag == "stream" else "sampling_param_max_tokens"
    pieces = streamed_texts(client, {**names, flag: ("BOOL", True), limit: ("INT32", LONG["max_tokens"])})
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(stub.ModelInfer(request(sampling=LONG)))


def test_tensorrt_llms_outputs(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        MODEL,
        typed_inputs(
            {
                **TENSORRT_LLM,
                "num_return_sequences": ("INT32", 2),
                "return_num_input_tokens": ("BOOL", True),
                "return_num_output_tokens": ("BOOL", True),
            }
        ),
        outputs=[triton.InferRequestedOutput(name) for name in ("text_output", "sequence_index", "batch_index")],
    )
    assert result.as_numpy("sequence_index").tolist() == [0, 1]
    assert result.as_numpy("batch_index").tolist() == [0]
    assert result.as_numpy("num_output_tokens").tolist() == [TOKENS, TOKENS]
    assert result.as_numpy("num_input_tokens").shape == (1,)
    first, second = result.as_numpy("text_output").tolist()
    assert first == second


def test_tensorrt_llms_end_id_ends_a_completion(client: triton.InferenceServerClient, stub: Stub) -> None:
    told = stub.ModelInfer(request(sampling={**GREEDY, "logprobs": 0}, return_logprobs=True))
    tokens = [int(next(iter(token))) for token in json.loads(str(value(told, "logprobs")))]
    inputs = {**TENSORRT_LLM, "end_id": ("INT32", tokens[5]), "return_num_output_tokens": ("BOOL", True)}
    result = client.infer(MODEL, typed_inputs(inputs))
    assert result.as_numpy("num_output_tokens").tolist() == [tokens.index(tokens[5]) + 1]


def test_the_llm_apis_outputs(client: triton.InferenceServerClient, expected: str) -> None:
    stop = expected[3:5]
    flags = {name: ("BOOL", True) for name in ("return_finish_reason", "return_stop_reason")}
    result = client.infer(MODEL, typed_inputs({**LLM_API, "sampling_param_stop": ("BYTES", [stop.encode()]), **flags}))
    assert result.as_numpy("text_output").tolist() == [expected[: expected.index(stop)].encode()]
    assert result.as_numpy("finish_reason").tolist() == [b"stop"]
    assert result.as_numpy("stop_reason").tolist() == [stop.encode()]


@pytest.mark.parametrize(
    ("names", "status", "words"),
    [
        ({**TENSORRT_LLM, "streaming": ("BOOL", False)}, "INVALID_ARGUMENT", "'max_tokens'.*'streaming'"),
        ({**TENSORRT_LLM, "return_finish_reason": ("BOOL", True)}, "INVALID_ARGUMENT", "'return_finish_reason'"),
        ({**TENSORRT_LLM, "beam_width": ("INT32", 2)}, "UNIMPLEMENTED", "'beam_width'"),
        ({**TENSORRT_LLM, "max_tokens": ("INT32", 0)}, "INVALID_ARGUMENT", "max_tokens"),
        ({"text_input": TEXT, "top_k": ("INT32", 1)}, "INVALID_ARGUMENT", "'max_tokens' is missing"),
        ({**LLM_API, "lora_name": ("BYTES", b"mine")}, "UNIMPLEMENTED", "'lora_name'"),
    ],
)
def test_what_is_wrong_is_named(
    client: triton.InferenceServerClient, names: Mapping[str, Any], status: str, words: str
) -> None:
    with pytest.raises(InferenceServerException, match=re.compile(rf"\[StatusCode\.{status}\] .*{words}", re.DOTALL)):
        client.infer(MODEL, typed_inputs(names))


def test_two_prompts_in_one_request_are_refused(client: triton.InferenceServerClient) -> None:
    inputs = typed_inputs({"max_tokens": ("INT32", 3)})
    inputs += typed_inputs({"text_input": ("BYTES", [b"one", b"two"])})
    inputs[1].set_shape([2, 1])
    with pytest.raises(InferenceServerException, match="batch of 2"):
        client.infer(MODEL, inputs)
