"""Mistral's `tekken.json`, through Mistral's own library, which knows the form of each version's conversations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from pydantic import ValidationError

from openmodel_runtime.errors import CheckpointError, InvalidRequest
from openmodel_runtime.text.conversation import Conversation
from openmodel_runtime.text.text_model import TextModel


def open_tekken(folder: Path) -> MistralTokenizer[Any, Any, Any, Any, Any]:
    """Tokenizer and conversations' form; CheckpointError when the file is damaged."""
    try:
        return MistralTokenizer.from_file(folder / "tekken.json")
    except Exception as error:  # the library checks little of the file and fails in many ways
        raise CheckpointError(f"tekken.json can not be read: {error!r}") from None


class Tekken(TextModel):
    """A tokenizer in Mistral's file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._chat = open_tekken(folder)
        tokenizer = self._chat.instruct_tokenizer.tokenizer
        assert isinstance(tokenizer, Tekkenizer)
        self._tokenizer = tokenizer

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones left out."""
        return self._decode(tokens, SpecialTokenPolicy.IGNORE)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones included."""
        return self._decode(tokens, SpecialTokenPolicy.KEEP)

    def _decode(self, tokens: Sequence[int], policy: SpecialTokenPolicy) -> str:
        # A model's table may have more rows than its tokenizer has tokens: those have no text.
        known = [token for token in tokens if token < self._tokenizer.n_words]
        return self._tokenizer.decode(known, special_token_policy=policy)

    def _encode_text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, bos=True, eos=False)

    async def _encode_conversation(self, conversation: Conversation) -> list[int]:
        return await asyncio.to_thread(self._encode_chat, conversation)

    def _encode_chat(self, conversation: Conversation) -> list[int]:
        if conversation.template_kwargs:
            raise InvalidRequest("input 'chat_template_kwargs': this model's tokenizer has no template that takes any")
        try:
            request = ChatCompletionRequest.from_openai(conversation.messages, tools=conversation.tools)
            return list(self._chat.encode_chat_completion(request).tokens)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(f"this model's tokenizer refuses these messages: {where}: {first['msg']}") from None
        except (MistralCommonException, AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(f"this model's tokenizer refuses these messages: {error or type(error)}") from None

    async def close(self) -> None:
        """Holds nothing."""
