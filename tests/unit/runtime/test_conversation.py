"""Messages, tools and the template's variables as callers write them."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from contract.infer_requests import request
from openmodel_runtime.errors import InvalidRequest, RequestError, Unsupported
from openmodel_runtime.front.parse import parse_request
from openmodel_runtime.text.conversation import Conversation

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def conversation(messages: Any, **more: Any) -> Conversation:
    given: dict[str, Any] = {name: json.dumps(value).encode() for name, value in {"messages": messages, **more}.items()}
    prompt = parse_request(request(None, **given), {}).prompt
    assert isinstance(prompt, Conversation)
    return prompt


def test_what_a_message_says_beside_its_role_and_content_is_kept() -> None:
    message = {"role": "tool", "content": "4", "tool_call_id": "abc", "name": "look"}
    assert conversation([USER, message]).messages == [USER, message]


def test_text_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert conversation([{"role": "user", "content": parts}]).messages[0]["content"] == "a b"


def test_arguments_of_calls_become_objects() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    message = conversation([USER, {"role": "assistant", "content": None, "tool_calls": [call]}]).messages[1]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "look", "arguments": {"x": 1}}
    assert message["tool_calls"][0]["id"] == "1"


def test_tools_and_variables_of_the_template() -> None:
    read = conversation([USER], tools=[TOOL], chat_template_kwargs={"enable_thinking": False})
    assert (read.tools, read.template_kwargs) == ([TOOL], {"enable_thinking": False})
    assert conversation([USER], tools=[]).tools is None


@pytest.mark.parametrize(
    ("messages", "more", "message"),
    [
        ([{"role": "user"}], {}, "messages[0].content"),
        ([{"role": "assistant", "content": None}], {}, "messages[0].content"),
        ([USER, {"role": "user", "content": [{"type": "text"}]}], {}, "messages[1].content[0]"),
        ([USER, {"role": "user", "content": [7]}], {}, "messages[1].content[0]"),
        ([{"role": "assistant", "tool_calls": {}}], {}, "messages[0].content"),
        ([{"role": "assistant", "tool_calls": "x"}], {}, "messages[0].tool_calls must be a list"),
        ([{"role": "assistant", "tool_calls": [{}]}], {}, "messages[0].tool_calls[0]"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            {},
            "messages[0].tool_calls[0].function.arguments is not JSON",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}],
            {},
            "messages[0].tool_calls[0].function.arguments must be an object",
        ),
        ([USER], {"tools": {}}, "input 'tools' must be a JSON list"),
        ([USER], {"tools": [{"type": "function"}]}, "tools[0]"),
        ([USER], {"chat_template_kwargs": []}, "input 'chat_template_kwargs' must be a JSON object"),
        ([USER], {"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools is set by the server"),
    ],
)
def test_the_place_of_a_fault_is_named(messages: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversation(messages, **more)
    assert message in str(caught.value)


def test_images_are_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"messages\[0\]\.content\[0\] is of type 'image_url'"):
        conversation([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


@pytest.mark.parametrize("name", ["tools", "chat_template_kwargs"])
def test_a_plain_prompt_has_no_template(name: str) -> None:
    with pytest.raises(RequestError, match=f"input '{name}' is for the chat template"):
        parse_request(request("hello", **cast(dict[str, Any], {name: b"[]"})), {})
