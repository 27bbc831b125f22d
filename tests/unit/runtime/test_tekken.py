"""Mistral's tokenizer file: prompts, conversations with tools, and grammars, with a file that Mistral publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mistral_common
import numpy as np
import pytest
from llguidance import LLExecutor

from openmodel_runtime.engine.grammar import GrammarCompiler, compute_masks
from openmodel_runtime.errors import CheckpointError, InvalidRequest
from openmodel_runtime.front.structured_outputs import parse_structured_outputs
from openmodel_runtime.text.conversation import Conversation
from openmodel_runtime.text.text_model import TextModel, open_text_model
from openmodel_runtime.text.vocabulary import grammar_tokenizer

PUBLISHED = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
TEXT = "Grüße, 世界! \U0001f468 1 + 1 = 2\n"
EOS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mistral")
    (made / "tekken.json").symlink_to(PUBLISHED)
    return made


@pytest.fixture(scope="module")
def text(folder: Path) -> TextModel:
    return open_text_model(folder)


async def told(text: TextModel, *messages: dict[str, Any], **more: Any) -> str:
    return text.decode_all(await text.encode(Conversation(messages=list(messages), **more)))


async def test_a_prompt_goes_to_tokens_and_back(text: TextModel) -> None:
    ids = await text.encode(TEXT)
    assert text.decode(ids) == TEXT
    assert text.decode_all(ids) == "<s>" + TEXT
    assert await text.encode(TEXT * 2000) != ids


def test_pieces_of_characters_are_no_text_yet(text: TextModel) -> None:
    from openmodel_runtime.front.detokenizer import IncrementalDecoder

    tokenizer: Any = text
    decoder = IncrementalDecoder(text.decode)
    pieces = [decoder.push(token) for token in tokenizer._encode_text(TEXT)]
    assert "".join(pieces) + decoder.flush() == TEXT
    assert not any("\ufffd" in piece for piece in pieces)


async def test_a_conversation_has_mistrals_form(text: TextModel) -> None:
    user = {"role": "user", "content": "hi"}
    system = {"role": "system", "content": "Be brief."}
    assert await told(text, user) == "<s>[INST]hi[/INST]"
    assert await told(text, system, user) == "<s>[INST]Be brief.\n\nhi[/INST]"
    assert await told(text, user, {"role": "assistant", "content": "yes"}, user) == (
        "<s>[INST]hi[/INST]yes</s>[INST]hi[/INST]"
    )


async def test_a_conversation_with_tools(text: TextModel) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    prompt = await told(
        text,
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "abcdefghi"},
        tools=[tool],
    )
    assert prompt.startswith("<s>[AVAILABLE_TOOLS][{")
    assert '[TOOL_CALLS][{"name": "add", "arguments": {"a": 2}, "id": "abcdefghi"}]</s>' in prompt
    assert prompt.endswith('[TOOL_RESULTS]{"content": 5, "call_id": "abcdefghi"}[/TOOL_RESULTS]')


async def test_what_the_form_does_not_have_is_the_callers_error(text: TextModel) -> None:
    for wrong in (
        Conversation(messages=[{"role": "wizard", "content": "x"}]),
        Conversation(messages=[{"role": "assistant", "content": "x"}]),
        Conversation(messages=[{"role": "user", "content": "x"}], tools=[{"type": "function"}]),
        Conversation(messages=[{"role": "user", "content": "x"}], template_kwargs={"enable_thinking": True}),
    ):
        with pytest.raises(InvalidRequest, match="this model's tokenizer"):
            await text.encode(wrong)


def test_a_grammar_follows_its_tokens(folder: Path, text: TextModel) -> None:
    tokenizer: Any = text
    vocabulary = 131072
    compiler = GrammarCompiler(lambda: grammar_tokenizer(folder, vocabulary, frozenset({EOS})))
    executor = LLExecutor(1)
    matcher = compiler.compile(parse_structured_outputs("structured_outputs", {"json_object": True}))
    ids = tokenizer._tokenizer.encode(
        json.dumps({"name": "世界", "n": [1, 2]}, ensure_ascii=False), bos=False, eos=False
    )
    for at, token in enumerate(ids):
        matcher.follow(ids[:at])
        (mask,) = compute_masks(executor, [matcher])
        allowed = np.unpackbits(mask, bitorder="little")
        assert (allowed[token], allowed[EOS]) == (1, 0)
    matcher.follow(ids)
    assert np.unpackbits(compute_masks(executor, [matcher])[0], bitorder="little")[EOS]


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"config": {}, "vocab": []}', b'{"config": 3, "vocab": 4}'])
def test_a_damaged_file_is_a_fault_of_the_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tekken.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tekken\.json can not be read"):
        open_text_model(tmp_path)


def test_a_checkpoint_needs_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json and tekken\.json are missing"):
        open_text_model(tmp_path)
