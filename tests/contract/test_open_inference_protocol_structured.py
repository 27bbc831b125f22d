"""Structured output through the wire: what comes back has the form that was asked for; what can not have is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import grpc
import pytest

from contract.infer_requests import GREEDY, PROMPT, request, text_of, typed_inputs, value, values
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc

Stub = pb_grpc.GRPCInferenceServiceStub
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}
TIGHT = {"json": SCHEMA, "disable_any_whitespace": True}


def sampling(structure: Any, **more: Any) -> dict[str, Any]:
    return {"temperature": 0, "max_tokens": 200, "structured_outputs": structure, **more}


def refused(stub: Stub, message: pb.ModelInferRequest, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() == code
    return str(caught.value.details())


def is_of_schema(text: str) -> bool:
    value = json.loads(text)
    return set(value) == {"kind", "legs"} and value["kind"] in ("cat", "dog") and 0 <= value["legs"] <= 9


@pytest.mark.parametrize("draw", [{}, {"temperature": 1.5, "seed": 3, "logprobs": 2}], ids=["greedy", "sampled"])
def test_a_random_model_answers_in_the_schema(stub: Stub, draw: dict[str, Any]) -> None:
    response = stub.ModelInfer(request(PROMPT, sampling(TIGHT, **draw), return_finish_reason=True))
    assert is_of_schema(text_of(response))
    assert value(response, "finish_reason") == "stop"


def test_each_completion_follows_by_itself(stub: Stub) -> None:
    answer = stub.ModelInfer(request(PROMPT, sampling(TIGHT, n=4, temperature=1.5, seed=1)))
    texts = values(answer, "text_output")
    assert len(texts) == 4
    assert all(map(is_of_schema, texts))


def test_choice_regex_and_grammar(stub: Stub) -> None:
    assert text_of(stub.ModelInfer(request(PROMPT, sampling({"choice": ["yes", "no"]})))) in ("yes", "no")
    assert re.fullmatch("[ab]{5}c", text_of(stub.ModelInfer(request(PROMPT, sampling({"regex": "[ab]{5}c"})))))
    lark = 'start: "<" WORD ">"\nWORD: /[a-z]{1,4}/'
    assert re.fullmatch("<[a-z]{1,4}>", text_of(stub.ModelInfer(request(PROMPT, sampling({"grammar": lark})))))


def test_what_max_tokens_cuts_says_so(stub: Stub) -> None:
    message = request(PROMPT, sampling({"regex": "a{40}b"}, max_tokens=3), return_finish_reason=True)
    response = stub.ModelInfer(message)
    assert set(text_of(response)) == {"a"}
    assert value(response, "finish_reason") == "length"


def test_in_tensorrt_llms_names(stub: Stub) -> None:
    message = pb.ModelInferRequest(model_name="tiny")
    inputs = {
        "text_input": ("BYTES", PROMPT.encode()),
        "max_tokens": ("INT32", 200),
        "top_p": ("FP32", 0.0),
        "end_id": ("INT32", 2),
        "guided_decoding_guide_type": ("BYTES", b"json_schema"),
        "guided_decoding_guide": ("BYTES", json.dumps(SCHEMA).encode()),
    }
    for each in typed_inputs(inputs):
        message.inputs.append(each._get_tensor())
        message.raw_input_contents.append(each._get_content())
    assert is_of_schema(text_of(stub.ModelInfer(message)))


@pytest.mark.parametrize(
    ("structure", "words"),
    [
        ({"json": {"type": "strin"}}, "structured_outputs: Invalid type"),
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": "(" * 3000 + "a" + ")" * 3000}, "structured_outputs"),
        ({"grammar": "start: " + "(" * 3000 + '"a"' + ")" * 3000}, "structured_outputs"),
        ({"grammar": 'start: e{64}\ne: "a" | e e | e e e | e e e e'}, "structured_outputs"),
        ({"json": {"$ref": "http://example.com/schema"}}, "structured_outputs"),
        ({"jsn": {}}, "structured_outputs.jsn"),
    ],
)
def test_what_can_not_be_followed_is_refused_and_nobody_else_notices(stub: Stub, structure: Any, words: str) -> None:
    expected = text_of(stub.ModelInfer(request()))
    beside = stub.ModelInfer.future(request(PROMPT, {**GREEDY, "max_tokens": 200}))
    assert words in refused(stub, request(PROMPT, sampling(structure, max_tokens=400)))
    assert text_of(beside.result())
    assert text_of(stub.ModelInfer(request())) == expected


def test_a_structured_request_is_the_same_beside_others(stub: Stub) -> None:
    message = request(PROMPT, sampling(TIGHT, temperature=1.2, seed=9))
    alone = text_of(stub.ModelInfer(message))
    others = [stub.ModelInfer.future(request(f"{PROMPT} {n}", {**GREEDY, "max_tokens": 80})) for n in range(6)]
    others += [stub.ModelInfer.future(request(f"{PROMPT} {n}", sampling(TIGHT))) for n in range(6)]
    assert text_of(stub.ModelInfer(message)) == alone
    for other in others:
        other.result()


def test_a_caller_who_goes_while_a_grammar_is_compiled_leaves_nothing(stub: Stub) -> None:
    large = {"json": {"type": "object", "properties": {f"p{n}": {"enum": [n]} for n in range(2500)}}}
    calls = [stub.ModelInfer.future(request(PROMPT, sampling(large))) for _ in range(8)]
    for call in calls:
        call.cancel()
    assert is_of_schema(text_of(stub.ModelInfer(request(PROMPT, sampling(TIGHT)))))
