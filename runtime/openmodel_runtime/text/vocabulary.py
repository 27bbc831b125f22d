"""A checkpoint's vocabulary for llguidance, which follows grammars token by token."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper

from openmodel_runtime.errors import CheckpointError, Unsupported


def grammar_tokenizer(folder: Path, vocab_size: int, eos_token_ids: Set[int]) -> LLTokenizer:
    """The tokens as bytes; Unsupported says why grammars can not be followed with this checkpoint."""
    if not eos_token_ids:
        raise Unsupported("structured_outputs: this model has no end token, so that nothing could end a structure")
    eos = sorted(eos_token_ids)
    path = folder / "tokenizer.json"
    try:
        return LLTokenizer(str(path) if path.is_file() else _tekken(folder, eos[0]), vocab_size, eos)
    except (CheckpointError, ValueError) as error:
        raise Unsupported(f"structured_outputs: this model's tokenizer can not be used for it: {error}") from None


def _tekken(folder: Path, eos: int) -> TokenizerWrapper:
    from openmodel_runtime.text.tekken import open_tekken

    return TokenizerWrapper(_TekkenVocabulary(open_tekken(folder).instruct_tokenizer.tokenizer, eos))


class _TekkenVocabulary:
    """What llguidance asks of a tokenizer that it does not know."""

    def __init__(self, tokenizer: Any, eos: int) -> None:
        self.eos_token_id = eos
        self.bos_token_id: int | None = tokenizer.bos_id
        self.tokens = [tokenizer.id_to_byte_piece(token) for token in range(tokenizer.n_words)]
        self.special_token_ids = sorted(tokenizer.special_ids)
        self._encode: Callable[..., list[int]] = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text, bos=False, eos=False)
