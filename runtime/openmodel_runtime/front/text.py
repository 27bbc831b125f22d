"""The checkpoint's own way from text to tokens: its tokenizer and its chat template.

A template is somebody else's program: it runs in Jinja's sandbox, which lets it read what it is given and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.sandbox
from tokenizers import Tokenizer

from openmodel_runtime.checkpoint.config_fields import read_json
from openmodel_runtime.errors import CheckpointError, InvalidRequest
from openmodel_runtime.front.parse import InferRequest, Message

# Likely tokens are likely again.
_REMEMBERED_TOKENS = 4096


class TextModel:
    """Tokenizer and chat template of one checkpoint."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError("tokenizer.json is missing: a fast tokenizer is needed")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(f"tokenizer.json can not be read: {error}") from None
        # A file may carry what its exporter padded and cut to; a prompt is taken as it is.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        config = _tokenizer_config(folder)
        self._special = {name: _token_text(config.get(name)) for name in ("bos_token", "eos_token")}
        self._template = _template(folder, config)
        self.token_text = lru_cache(_REMEMBERED_TOKENS)(lambda token: self.decode_all([token]))
        """Text of one token by itself; "" when the tokenizer does not know it."""

    def encode(self, request: InferRequest) -> tuple[int, ...]:
        """Token ids of the prompt; templates bring their own special tokens."""
        if request.messages is None:
            ids = self._tokenizer.encode(request.text or "").ids
        else:
            ids = self._tokenizer.encode(self._render(request.messages), add_special_tokens=False).ids
        if not ids:
            name = "text_input" if request.messages is None else "messages"
            raise InvalidRequest(f"input {name!r} makes an empty prompt: there is nothing to continue")
        return tuple(ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones left out."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones included."""
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    def _render(self, messages: list[Message]) -> str:
        if self._template is None:
            raise InvalidRequest("this model has no chat template: send text_input")
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidRequest(f"the model's chat template refuses these messages: {error}") from None


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def _token_text(value: object) -> str:
    """A special token is written as its text or as an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _template(folder: Path, config: dict[str, Any]) -> jinja2.Template | None:
    file = folder / "chat_template.jinja"
    source: object = config.get("chat_template")
    if file.exists():
        source = file.read_text(encoding="utf-8")
    if isinstance(source, list):
        # Several named templates: the one called "default" is for chat.
        source = next((item["template"] for item in source if item.get("name") == "default"), None)
    if not isinstance(source, str):
        return None
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _to_json
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise CheckpointError(f"the chat template can not be read: {error}") from None


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: object, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML, which no prompt wants.
    return json.dumps(value, ensure_ascii=False, indent=indent)
