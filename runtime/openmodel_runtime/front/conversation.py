"""The conversation of a request: `messages`, `tools` and `chat_template_kwargs`, in OpenAI's form.

Pure. Checks what every template relies on; which roles there are is the template's to say.
"""

from __future__ import annotations

import json
from typing import Any

from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.inputs import Inputs
from openmodel_runtime.text.conversation import Conversation, Message

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})


def read_conversation(inputs: Inputs) -> Conversation:
    """What the inputs say; InvalidRequest and Unsupported name the place."""
    messages = inputs.json("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("input 'messages' must be a non-empty JSON list of {role, content}")
    return Conversation(
        messages=[_message(f"messages[{index}]", message) for index, message in enumerate(messages)],
        tools=_tools(inputs),
        template_kwargs=_template_kwargs(inputs),
    )


def _message(where: str, given: Any) -> Message:
    if not isinstance(given, dict) or not isinstance(given.get("role"), str):
        raise InvalidRequest(f"{where} must be an object with a role")
    calls = _tool_calls(where, given["tool_calls"]) if given.get("tool_calls") else None
    message = {**given, "content": _content(where, given.get("content"), optional=calls is not None)}
    if calls is not None:
        message["tool_calls"] = calls
    return message


def _content(where: str, content: Any, optional: bool) -> str | None:
    if isinstance(content, list):
        return "".join(_part(f"{where}.content[{index}]", part) for index, part in enumerate(content))
    if isinstance(content, str) or (content is None and optional):
        return content
    raise InvalidRequest(f"{where}.content must be a string or a list of text parts")


def _part(where: str, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(kind, str) and kind != "text":
        raise Unsupported(f"{where} is of type {kind!r}: models take text alone here")
    raise InvalidRequest(f"{where} must be {{type: text, text: ...}}")


def _tool_calls(where: str, calls: Any) -> list[Message]:
    if not isinstance(calls, list):
        raise InvalidRequest(f"{where}.tool_calls must be a list")
    return [_tool_call(f"{where}.tool_calls[{index}]", call) for index, call in enumerate(calls)]


def _tool_call(where: str, call: Any) -> Message:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where} must be an object with a function that has a name")
    return {**call, "function": {**function, "arguments": _arguments(where, function.get("arguments"))}}


def _arguments(where: str, arguments: Any) -> Any:
    """OpenAI writes them as a string of JSON, templates want what it says."""
    if arguments is None or arguments == "":
        return {}
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where}.function.arguments is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}.function.arguments must be an object")
    return value


def _tools(inputs: Inputs) -> list[Message] | None:
    if "tools" not in inputs:
        return None
    tools = inputs.json("tools")
    if not isinstance(tools, list):
        raise InvalidRequest("input 'tools' must be a JSON list of {type: function, function: {name, ...}}")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest(f"tools[{index}] must be an object with a function that has a name")
    return tools or None


def _template_kwargs(inputs: Inputs) -> dict[str, Any]:
    if "chat_template_kwargs" not in inputs:
        return {}
    values = inputs.json("chat_template_kwargs")
    if not isinstance(values, dict):
        raise InvalidRequest("input 'chat_template_kwargs' must be a JSON object")
    if reserved := sorted(_RESERVED & values.keys()):
        raise InvalidRequest(f"chat_template_kwargs.{reserved[0]} is set by the server: leave it out")
    return values
