"""Grammars against a vocabulary: what may come next, and that a hostile one is given up after a bounded work."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llguidance import LLExecutor, LLMatcher

from checkpoints import EOS_ID, VOCABULARY, tiny_tokenizer, write_tiny_llama
from openmodel_runtime.engine.grammar import GrammarCompiler, GrammarMatcher, Mask, compute_masks
from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.structured_outputs import parse_structured_outputs
from openmodel_runtime.text.vocabulary import grammar_tokenizer

TOKENIZER = tiny_tokenizer()
EXECUTOR = LLExecutor(1)


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> GrammarCompiler:
    folder = write_tiny_llama(tmp_path_factory.mktemp("model"))
    return GrammarCompiler(lambda: grammar_tokenizer(folder, VOCABULARY, frozenset({EOS_ID})))


def grammar(**wish: Any) -> str:
    return parse_structured_outputs("structured_outputs", wish)


def allowed(matcher: GrammarMatcher, completion: list[int]) -> list[int]:
    mask = mask_after(matcher, completion)
    return [int(token) for token in np.flatnonzero(np.unpackbits(mask, count=VOCABULARY, bitorder="little"))]


def mask_after(matcher: GrammarMatcher, completion: list[int]) -> Mask:
    matcher.follow(completion)
    (mask,) = compute_masks(EXECUTOR, [matcher])
    matcher.check()
    return mask


def wander(matcher: GrammarMatcher, seed: int, limit: int = 400) -> list[int]:
    """Tokens drawn from whatever may come, up to the end token."""
    chance = random.Random(seed)
    tokens: list[int] = []
    while len(tokens) < limit:
        choices = allowed(matcher, tokens)
        tokens.append(EOS_ID if EOS_ID in choices else chance.choice(choices))
        if tokens[-1] == EOS_ID:
            return tokens
    raise AssertionError("no end")


def test_a_walk_through_a_schema_is_json_of_that_schema(compiler: GrammarCompiler) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Ada", "Grace"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    for seed in range(5):
        matcher = compiler.compile(grammar(json=schema, disable_any_whitespace=True))
        value = json.loads(TOKENIZER.decode(wander(matcher, seed)[:-1]))
        assert value["name"] in ("Ada", "Grace")
        assert 0 <= value["age"] <= 99


def test_a_choice_a_regex_and_a_grammar(compiler: GrammarCompiler) -> None:
    assert TOKENIZER.decode(wander(compiler.compile(grammar(choice=["yes", 'no "way"'])), 1)) in ("yes", 'no "way"')
    assert TOKENIZER.decode(wander(compiler.compile(grammar(regex="[ab]{4}c")), 2))[-1] == "c"
    gbnf = 'root ::= "(" root ")" | "x"'
    text = TOKENIZER.decode(wander(compiler.compile(grammar(grammar=gbnf)), 3))
    assert text.count("(") == text.count(")")


def test_only_the_end_may_follow_a_whole(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile(grammar(choice=["yes"]))
    assert EOS_ID not in allowed(matcher, [])
    assert allowed(matcher, TOKENIZER.encode("yes", add_special_tokens=False).ids) == [EOS_ID]


def test_matchers_of_one_grammar_know_nothing_of_each_other(compiler: GrammarCompiler) -> None:
    wish = grammar(regex="[a-z]{3,50}")
    alone = wander(compiler.compile(wish), 7)
    first, second = compiler.compile(wish), compiler.compile(wish)
    wander(first, 8)
    assert wander(second, 7) == alone


def test_asking_twice_changes_nothing(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile(grammar(regex="abc|abd"))
    step = TOKENIZER.encode("a", add_special_tokens=False).ids
    assert allowed(matcher, step) == allowed(matcher, step)


EXPLOSIVE = {
    "properties": grammar(json={"type": "object", "properties": {f"{n}": {"enum": [n]} for n in range(2900)}}),
    "nested groups": grammar(regex="(" * 5000 + "a" + ")" * 5000),
    "nested repetition": grammar(regex="((a{1,900}){1,900}){1,900}b"),
    "nested rules": LLMatcher.grammar_from_lark("start: " + "(" * 5000 + '"a"' + ")" * 5000),
    "states": grammar(regex="(a|b)*a(a|b){25}c"),
    "ambiguity": LLMatcher.grammar_from_lark('start: e\ne: "a" | "b" | "ab" | e e | e e e | e e e e'),
    "itself": grammar(json={"$ref": "#"}),
    "alternatives": grammar(json={"anyOf": [{"type": "string", "pattern": f"(x|y)*{n}.*"} for n in range(900)]}),
}


def follow(compiler: GrammarCompiler, name: str) -> int:
    """Follows an explosive grammar through a text as far as it goes."""
    text = TOKENIZER.encode("ab" * 300, add_special_tokens=False).ids
    matcher = compiler.compile(EXPLOSIVE[name])
    return next((at for at in range(len(text)) if text[at] not in allowed(matcher, text[:at])), len(text))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["nested groups", "nested rules", "ambiguity", "itself"])
def test_what_is_beyond_the_limits_is_refused(compiler: GrammarCompiler, name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^structured_outputs: .{1,300}$"):
        follow(compiler, name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "tokens"), [("properties", 0), ("nested repetition", 2), ("states", 600), ("alternatives", 0)]
)
def test_what_is_large_and_within_the_limits_is_followed(compiler: GrammarCompiler, name: str, tokens: int) -> None:
    """As far as the text agrees: JSON does not begin with a letter."""
    assert follow(compiler, name) == tokens


def test_what_is_wrong_is_told(compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidRequest, match="Invalid type: strin"):
        compiler.compile(grammar(json={"type": "strin"}))
    with pytest.raises(InvalidRequest, match="unclosed group"):
        compiler.compile(grammar(regex="(a"))


def test_a_model_without_an_end_token_can_not_follow_any(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path)
    endless = GrammarCompiler(lambda: grammar_tokenizer(folder, VOCABULARY, frozenset()))
    with pytest.raises(Unsupported, match="no end token"):
        endless.compile(grammar(choice=["yes"]))
