"""What callers may ask of a completion's form, and how a wrong wish is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openmodel_runtime.errors import InvalidRequest, RequestError, Unsupported
from openmodel_runtime.front.sampling_parameters import parse_sampling
from openmodel_runtime.front.structured_outputs import MAX_GRAMMAR_CHARACTERS

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def grammar(value: Any, **beside: Any) -> str:
    return parse_sampling({"structured_outputs": value, **beside}, {}).params.grammar


def test_nothing_asked_for_is_no_grammar() -> None:
    assert parse_sampling({}, {}).params.grammar == ""
    assert grammar(None) == ""


def test_a_schema_may_be_an_object_or_its_text_and_so_may_the_whole() -> None:
    wanted = grammar({"json": SCHEMA})
    assert "integer" in wanted
    assert grammar({"json": json.dumps(SCHEMA)}) == wanted
    assert grammar(json.dumps({"json": SCHEMA})) == wanted
    assert parse_sampling({"guided_decoding": {"json": SCHEMA}}, {}).params.grammar == wanted


def test_neutral_values_of_vllm_say_nothing() -> None:
    neutral = {"regex": None, "json_object": False, "structural_tag": None, "disable_fallback": False}
    assert grammar({"json": SCHEMA, **neutral}) == grammar({"json": SCHEMA})


def test_whitespace_can_be_kept_out() -> None:
    assert grammar({"json": SCHEMA, "disable_any_whitespace": True}) != grammar({"json": SCHEMA})
    assert grammar({"json": SCHEMA, "whitespace_pattern": "[ ]?"}) != grammar({"json": SCHEMA})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "exactly one of json, json_object, regex, choice, grammar, not none"),
        ({"json": SCHEMA, "regex": "a"}, "not json and regex"),
        ("{", "structured_outputs is not JSON"),
        ([], "must be an object"),
        ({"jsn": SCHEMA}, "structured_outputs.jsn"),
        ({"json": "{"}, "structured_outputs.json is not JSON"),
        ({"json": 5}, "structured_outputs.json must be a JSON schema"),
        ({"json_object": 1}, "structured_outputs.json_object must be true"),
        ({"regex": 3}, "structured_outputs.regex must be a non-empty string"),
        ({"choice": []}, "structured_outputs.choice must be a list"),
        ({"choice": ["a", ""]}, "structured_outputs.choice must be a list"),
        ({"grammar": "root ::= ("}, "structured_outputs.grammar"),
        ({"regex": "a" * (MAX_GRAMMAR_CHARACTERS + 1)}, "characters as a grammar"),
        ({"grammar": "a" * (MAX_GRAMMAR_CHARACTERS + 1)}, "are allowed"),
        ({"json": SCHEMA, "disable_any_whitespace": "yes"}, "disable_any_whitespace must be true or false"),
        ({"json": SCHEMA, "whitespace_pattern": 1}, "whitespace_pattern must be a regular expression"),
        ('{"json": ' + "[" * 100_000, "structured_outputs is not JSON"),
    ],
)
def test_a_wrong_wish_is_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grammar(value)
    assert message in str(caught.value)


def test_what_is_vllms_and_not_offered_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"structured_outputs\.structural_tag"):
        grammar({"structural_tag": "{}"})


@pytest.mark.parametrize("beside", [{"ignore_eos": True}, {"min_tokens": 2}])
def test_a_structure_says_itself_where_it_ends(beside: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(beside))):
        grammar({"json": SCHEMA}, **beside)
