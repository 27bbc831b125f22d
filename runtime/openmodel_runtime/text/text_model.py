"""What the front needs of a tokenizer, whatever its file is."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from openmodel_runtime.errors import CheckpointError, InvalidRequest
from openmodel_runtime.text.conversation import Conversation

# Below this many characters tokenizing is quicker than handing it to a thread.
_INLINE_CHARACTERS = 4096
# Likely tokens are likely again.
_REMEMBERED_TOKENS = 4096


class TextModel(ABC):
    """Tokenizer and chat template of one checkpoint."""

    def __init__(self) -> None:
        self.token_text = lru_cache(_REMEMBERED_TOKENS)(lambda token: self.decode_all([token]))
        """Text of one token by itself; "" when the tokenizer does not know it."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones left out."""

    @abstractmethod
    def decode_all(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones included."""

    @abstractmethod
    def _encode_text(self, text: str) -> list[int]:
        """Tokens of a prompt, with the special ones that the checkpoint puts before it."""

    @abstractmethod
    async def _encode_conversation(self, conversation: Conversation) -> list[int]:
        """Tokens of a conversation up to where the model answers; InvalidRequest when the template refuses it."""

    async def encode(self, prompt: str | Conversation) -> tuple[int, ...]:
        """Token ids, at least one; InvalidRequest when there are none."""
        if isinstance(prompt, Conversation):
            ids = await self._encode_conversation(prompt)
        else:
            ids = await self._tokenized(prompt)
        if not ids:
            name = "messages" if isinstance(prompt, Conversation) else "text_input"
            raise InvalidRequest(f"input {name!r} makes an empty prompt: there is nothing to continue")
        return tuple(ids)

    @abstractmethod
    async def close(self) -> None:
        """Gives back what conversations needed."""

    async def _tokenized(self, text: str) -> list[int]:
        if len(text) < _INLINE_CHARACTERS:
            return self._encode_text(text)
        return await asyncio.to_thread(self._encode_text, text)


def open_text_model(folder: Path) -> TextModel:
    """The checkpoint's tokenizer: `tokenizer.json`, else Mistral's `tekken.json`. CheckpointError without either."""
    # Each library is imported for the checkpoints that need it.
    if (folder / "tokenizer.json").is_file():
        from openmodel_runtime.text.tokenizer_json import TokenizerJson

        return TokenizerJson(folder)
    if (folder / "tekken.json").is_file():
        from openmodel_runtime.text.tekken import Tekken

        return Tekken(folder)
    raise CheckpointError(
        "tokenizer.json and tekken.json are missing: a fast tokenizer is needed. A checkpoint that has only "
        "tokenizer.model is converted by loading it with transformers' AutoTokenizer and calling save_pretrained"
    )
