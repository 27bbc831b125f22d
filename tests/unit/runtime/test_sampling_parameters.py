from __future__ import annotations

import math

import pytest

from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.sampling_parameters import parse_sampling


def test_strings_of_numbers_are_numbers() -> None:
    parsed = parse_sampling({"temperature": "0.1", "top_p": "0.95", "max_tokens": "100", "ignore_eos": "true"}, {})
    assert (parsed.params.temperature, parsed.params.top_p, parsed.params.max_tokens) == (0.1, 0.95, 100)
    assert parsed.params.ignore_eos


def test_the_checkpoints_defaults_count_where_the_caller_is_silent() -> None:
    parsed = parse_sampling({"top_k": 3}, {"temperature": 0.6, "top_k": 50})
    assert (parsed.params.temperature, parsed.params.top_k) == (0.6, 3)


def test_minus_one_is_all_tokens() -> None:
    assert parse_sampling({"top_k": -1}, {}).params.top_k == 0


def test_stop_takes_one_string_or_several() -> None:
    assert parse_sampling({"stop": "x"}, {}).stop == ("x",)
    assert parse_sampling({"stop": ["x", "yz"]}, {}).stop == ("x", "yz")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"temperatur": 1}, "temperatur"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"min_tokens": 20, "max_tokens": 10}, "min_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"stop_token_ids": [1, "2"]}, "stop_token_ids"),
        ({"ignore_eos": "perhaps"}, "ignore_eos"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        parse_sampling(given, {})


@pytest.mark.parametrize("given", [{"n": 2}, {"logprobs": 1}, {"repetition_penalty": 1.1}, {"lora_name": "x"}])
def test_what_is_not_built_is_refused_by_name(given: dict[str, object]) -> None:
    with pytest.raises(Unsupported, match=next(iter(given))):
        parse_sampling(given, {})


def test_neutral_values_of_what_is_not_built_are_accepted() -> None:
    parse_sampling({"n": 1, "repetition_penalty": 1.0, "logprobs": None, "skip_special_tokens": True}, {})
