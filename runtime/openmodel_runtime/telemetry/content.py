"""What a request asked and what it was answered, for its span: only where the model's owner asks for it by name.

The one part of telemetry that knows text. It keeps the beginnings, and says so where more there was: spans wait in
memory, and collectors refuse large messages. The form is that of OpenTelemetry's conventions for generative AI.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from openmodel_runtime.text.conversation import Conversation, Message
from openmodel_telemetry import names

# Characters of all that was asked, and as many of all that was answered.
MOST_CHARACTERS = 8192

# That a message or a part counts for, however little it says.
_FRAME_CHARACTERS = 32

Part = dict[str, Any]


class Answered(Protocol):
    """What is new of a completion."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def finish_reason(self) -> str:
        """Why the completion has ended; "" while it goes on."""


class _Room:
    """How much more is kept."""

    def __init__(self) -> None:
        self._left = MOST_CHARACTERS
        self.exceeded = False

    def kept(self, text: str) -> str:
        """As much of the text as there is room for."""
        kept = text[: max(0, self._left)]
        self._left -= len(kept)
        self.exceeded |= len(kept) < len(text)
        return kept

    def framed(self) -> bool:
        """Whether there was room for one more message or part."""
        self._left -= _FRAME_CHARACTERS
        self.exceeded |= self._left < 0
        return self._left >= 0


class Content:
    """Of one request."""

    def __init__(self, prompt: str | Conversation) -> None:
        self._prompt = prompt
        self._room = _Room()
        self._texts: list[list[str]] = []
        self._finish_reasons: list[str] = []

    def answered(self, pieces: Sequence[Answered], echoed: int = 0) -> None:
        """Something of each completion came, after so many characters of the prompt."""
        while len(self._texts) < len(pieces):
            self._texts.append([])
            self._finish_reasons.append("")
        for index, piece in enumerate(pieces):
            if kept := self._room.kept(piece.text[echoed:]):
                self._texts[index].append(kept)
            self._finish_reasons[index] = piece.finish_reason

    def attributes(self) -> dict[str, str | bool]:
        """Of the request's span; values are JSON."""
        room = _Room()
        told: dict[str, str | bool] = {names.INPUT_MESSAGES: _json(_asked(self._prompt, room))}
        if isinstance(self._prompt, Conversation) and self._prompt.tools:
            # Cut off, it would be no JSON any more.
            tools = _json(self._prompt.tools)
            if room.kept(tools) == tools:
                told[names.TOOL_DEFINITIONS] = tools
        if self._texts:
            pairs = zip(self._texts, self._finish_reasons, strict=True)
            told[names.OUTPUT_MESSAGES] = _json(
                [
                    {"role": "assistant", "parts": [_text("".join(texts))], "finish_reason": reason or "error"}
                    for texts, reason in pairs
                ]
            )
        if room.exceeded or self._room.exceeded:
            told[names.CONTENT_TRUNCATED] = True
        return told


def _asked(prompt: str | Conversation, room: _Room) -> list[Part]:
    if isinstance(prompt, str):
        return [{"role": "user", "parts": [_text(room.kept(prompt))]}]
    messages: list[Part] = []
    for message in prompt.messages:
        if not room.framed():
            break
        messages.append({"role": room.kept(message["role"]), "parts": list(_parts(message, room))})
    return messages


def _parts(message: Message, room: _Room) -> Iterable[Part]:
    content = message.get("content")
    if message["role"] == "tool":
        called = room.kept(str(message.get("tool_call_id") or ""))
        yield {"type": "tool_call_response", "id": called, "response": room.kept(content or "")}
    elif content:
        yield _text(room.kept(content))
    for call in message.get("tool_calls") or ():
        if not room.framed():
            break
        function = call["function"]
        yield {
            "type": "tool_call",
            "id": room.kept(str(call.get("id") or "")),
            "name": room.kept(function["name"]),
            "arguments": room.kept(_json(function["arguments"])),
        }


def _text(text: str) -> Part:
    return {"type": "text", "content": text}


def _json(value: Any) -> str:
    # Half of a surrogate pair is nothing that can be sent.
    return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
