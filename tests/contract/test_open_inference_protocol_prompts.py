"""Prompts and messages: what reaches the model, and what is refused before."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from contract.infer_requests import chat, request, text_of, value
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import grpc_service_pb2_grpc as pb_grpc
from openmodel_runtime.front.parse import parse_request
from openmodel_runtime.text.text_model import open_text_model

Stub = pb_grpc.GRPCInferenceServiceStub
MIXED = "Grüße, 世界! \U0001f468\u200d\U0001f469\u200d\U0001f467 \0 \ufffd"


def refusal(stub: Stub, message: pb.ModelInferRequest) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


def test_messages_go_through_the_chat_template(stub: Stub) -> None:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"})
    rendered = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in messages)
    prompt = rendered + "<|im_start|>assistant\n"
    assert text_of(stub.ModelInfer(chat(*messages))) == text_of(stub.ModelInfer(request(prompt)))


def test_what_the_template_refuses_is_the_callers_error(stub: Stub) -> None:
    assert "unknown role: wizard" in refusal(stub, chat({"role": "wizard", "content": "Abracadabra"}))
    assert "messages[0].content" in refusal(stub, chat({"role": "user", "content": [{"type": "text"}]}))
    assert "non-empty JSON list" in refusal(stub, chat())


async def test_messages_that_render_to_nothing_are_the_callers_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_checkpoint / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    )
    text = open_text_model(tmp_path)

    with pytest.raises(Exception, match="empty prompt"):
        await text.encode(parse_request(chat({"role": "system", "content": "Be brief."}), {}).prompt)
    await text.close()


def test_half_a_surrogate_pair_is_the_callers_error(stub: Stub) -> None:
    for broken in (rb'[{"role": "user", "content": "\ud800"}]', rb'[{"role": "\uDFFF", "content": "x"}]'):
        assert "messages" in refusal(stub, request(None, messages=broken))
    whole = rb'[{"role": "user", "content": "\ud83d\ude00"}]'
    assert stub.ModelInfer(request(None, messages=whole)).outputs


@pytest.mark.parametrize(
    "raw",
    [b"9" * 5000, b'{"seed": ' + b"9" * 5000 + b"}", b'{"seed": NaN}', b"[" * 100_000, b'{"stop": ["\\ud800"]}', b""],
)
def test_odd_json_is_the_callers_error(stub: Stub, raw: bytes) -> None:
    assert refusal(stub, request(sampling=None, sampling_parameters=raw))


def test_a_prompt_of_any_characters_comes_back(stub: Stub) -> None:
    assert text_of(stub.ModelInfer(request(MIXED, exclude_input_in_output=False))).startswith(MIXED)
    assert text_of(stub.ModelInfer(request(None, messages=json.dumps([{"role": "user", "content": MIXED}]).encode())))


def test_special_tokens_in_a_prompt_are_tokens(stub: Stub) -> None:
    assert value(stub.ModelInfer(request("<|im_start|>", return_num_input_tokens=True)), "num_input_tokens") == 1
