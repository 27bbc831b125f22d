"""A conversation as chat templates take it. Knows no tensor: the front reads callers' words into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in Hugging Face's form: `content` a string or null, arguments of tool calls as objects."""

    messages: list[Message]
    tools: list[Message] | None = None
    """Functions that the model may call, in OpenAI's form."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further variables of the template, such as `enable_thinking` or `reasoning_effort`."""
