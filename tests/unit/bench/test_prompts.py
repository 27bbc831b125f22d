"""Prompts are new and exact, with whatever text the machine has."""

from __future__ import annotations

from pathlib import Path

from bench.measure import prompts
from bench.measure.prompts import PROMPT_TOKENS, PromptSource
from checkpoints import tiny_tokenizer


def test_prompts_are_exact_and_none_begins_like_another(tmp_path: Path) -> None:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    taken = PromptSource(tmp_path).take(40)
    encode = tiny_tokenizer().encode
    assert all(tuple(encode(prompt.text).ids) == prompt.ids for prompt in taken)
    assert {len(prompt.ids) for prompt in taken} == {PROMPT_TOKENS}
    assert len({prompt.ids[: prompts._HEAD_TOKENS] for prompt in taken}) == len(taken)
