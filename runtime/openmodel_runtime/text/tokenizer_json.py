"""`tokenizer.json` of the tokenizers library, with the checkpoint's chat template beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from openmodel_runtime.checkpoint.config_fields import read_json
from openmodel_runtime.errors import CheckpointError, InvalidRequest
from openmodel_runtime.text.chat_template import ChatTemplate
from openmodel_runtime.text.conversation import Conversation
from openmodel_runtime.text.text_model import TextModel


class TokenizerJson(TextModel):
    """A tokenizer in Hugging Face's files."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(f"tokenizer.json can not be read: {error}") from None
        # A file may carry what its exporter padded and cut to; a prompt is taken as it is.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        config = _tokenizer_config(folder)
        source = _template_source(folder, config)
        special = {name: _token_text(config.get(name)) for name in ("bos_token", "eos_token")}
        self._template = None if source is None else ChatTemplate(source, special)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones left out."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones included."""
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    def _encode_text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    async def _encode_conversation(self, conversation: Conversation) -> list[int]:
        if self._template is None:
            raise InvalidRequest("this model has no chat template: send text_input")
        rendered = await self._template.render(conversation)
        # Templates bring their own special tokens.
        return self._tokenizer.encode(rendered, add_special_tokens=False).ids

    async def close(self) -> None:
        """Ends the template's process."""
        if self._template is not None:
            await self._template.close()


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def _token_text(value: object) -> str:
    """A special token is written as its text or as an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _template_source(folder: Path, config: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    source: object = config.get("chat_template")
    if file.exists():
        source = file.read_text(encoding="utf-8")
    if isinstance(source, list):
        # Several named templates: the one called "default" is for chat.
        source = next((item["template"] for item in source if item.get("name") == "default"), None)
    return source if isinstance(source, str) else None
