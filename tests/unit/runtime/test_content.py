"""What is kept of what callers ask and are answered: in OpenTelemetry's form, never more than there is room for."""

from __future__ import annotations

import json
from typing import Any

from openmodel_runtime.front.completion import Piece
from openmodel_runtime.telemetry.content import MOST_CHARACTERS, Content
from openmodel_runtime.text.conversation import Conversation


def told(content: Content) -> dict[str, Any]:
    """Its attributes, read, by the word that tells them apart."""
    return {
        name.split(".")[1]: json.loads(value) if isinstance(value, str) else value
        for name, value in content.attributes().items()
    }


def said(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "content": text}]


def test_a_prompt_and_each_completion() -> None:
    content = Content("one plus one")
    content.answered([Piece(text="is "), Piece(text="makes")])
    content.answered([Piece(text="two", finish_reason="stop"), Piece(finish_reason="length")])
    assert told(content) == {
        "input": [{"role": "user", "parts": said("one plus one")}],
        "output": [
            {"role": "assistant", "parts": said("is two"), "finish_reason": "stop"},
            {"role": "assistant", "parts": said("makes"), "finish_reason": "length"},
        ],
    }


def test_a_conversation_with_tools() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "assistant", "content": "", "tool_calls": None},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert told(Content(Conversation(messages=messages, tools=tools))) == {
        "input": [
            {"role": "user", "parts": said("add")},
            {
                "role": "assistant",
                "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": '{"a": 1}'}],
            },
            {"role": "assistant", "parts": []},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "2"}]},
        ],
        "tool": tools,
    }


def test_one_that_was_given_up_says_what_it_got() -> None:
    content = Content("why")
    content.answered([Piece(text="bec")])
    (message,) = told(content)["output"]
    assert (message["parts"], message["finish_reason"]) == (said("bec"), "error")
    assert "gen_ai.output.messages" not in Content("why").attributes()


def test_the_beginning_of_what_is_long_is_kept_and_that_it_is_one_is_said() -> None:
    content = Content("a" * MOST_CHARACTERS)
    assert "content" not in told(content)
    for _ in range(3):
        content.answered([Piece(text="b" * MOST_CHARACTERS)])
    (message,) = told(content)["output"]
    assert message["parts"] == said("b" * MOST_CHARACTERS)
    assert told(content)["content"] is True
    assert told(Content("a" * MOST_CHARACTERS + "a"))["content"] is True


def test_a_million_empty_messages_take_no_more() -> None:
    content = Content(Conversation(messages=[{"role": "", "content": ""}] * 1_000_000))
    attributes = content.attributes()
    assert attributes["openmodel.content.truncated"] is True
    assert len(str(attributes["gen_ai.input.messages"])) < 4 * MOST_CHARACTERS


def test_tools_that_would_be_cut_off_are_left_out() -> None:
    tools = [{"type": "function", "function": {"name": "a" * MOST_CHARACTERS}}]
    content = Content(Conversation(messages=[{"role": "user", "content": "add"}], tools=tools))
    assert "gen_ai.tool.definitions" not in content.attributes()
    assert told(content)["content"] is True


def test_what_is_echoed_is_no_answer() -> None:
    content = Content("a" * MOST_CHARACTERS)
    content.answered([Piece(text="a" * MOST_CHARACTERS + "bc", finish_reason="stop")], MOST_CHARACTERS)
    (message,) = told(content)["output"]
    assert message["parts"] == said("bc")
    assert "content" not in told(content)


def test_half_of_a_surrogate_pair_is_told_as_something_else() -> None:
    call = {"id": None, "function": {"name": "add", "arguments": {"a": "\ud800"}}}
    content = Content(Conversation(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}]))
    (part,) = told(content)["input"][0]["parts"]
    assert (part["id"], part["arguments"]) == ("", '{"a": "?"}')
    str(content.attributes()["gen_ai.input.messages"]).encode()
