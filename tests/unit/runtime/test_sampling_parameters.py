from __future__ import annotations

import math

import pytest

from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.sampling_parameters import MAX_COMPLETIONS, MAX_LOGPROBS, parse_sampling
from openmodel_runtime.request import MAX_SEED


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


def test_penalties_and_what_text_alone_shows() -> None:
    parsed = parse_sampling(
        {
            "presence_penalty": -2,
            "frequency_penalty": "1.5",
            "repetition_penalty": 1.1,
            "include_stop_str_in_output": True,
            "skip_special_tokens": "false",
            "logprobs": MAX_LOGPROBS,
            "n": MAX_COMPLETIONS,
            "best_of": MAX_COMPLETIONS,
        },
        {},
    )
    params = parsed.params
    assert (params.presence_penalty, params.frequency_penalty, params.repetition_penalty) == (-2, 1.5, 1.1)
    assert (parsed.include_stop, parsed.skip_special_tokens) == (True, False)
    assert (parsed.logprobs, parsed.n) == (MAX_LOGPROBS, MAX_COMPLETIONS)


def test_each_completion_has_a_seed_of_its_own() -> None:
    seeded = parse_sampling({"n": 3, "seed": MAX_SEED - 1}, {})
    assert [seeded.of_completion(index).seed for index in range(3)] == [MAX_SEED - 1, MAX_SEED, 0]
    assert parse_sampling({"n": 3}, {}).of_completion(2).seed is None


def test_errors_use_the_callers_own_name() -> None:
    with pytest.raises(InvalidRequest, match="sampling_param_top_p"):
        parse_sampling({"top_p": 2.0}, {}, {"top_p": "sampling_param_top_p"})


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
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"logprobs": MAX_LOGPROBS + 1}, "logprobs must be at least 0 and at most 20"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 0}, "n must be"),
        ({"n": MAX_COMPLETIONS + 1}, "n must be"),
        ({"skip_special_tokens": 1}, "skip_special_tokens"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        parse_sampling(given, {})


@pytest.mark.parametrize(
    "given", [{"best_of": 2}, {"prompt_logprobs": 1}, {"bad_words": ["x"]}, {"lora_name": "x"}, {"detokenize": False}]
)
def test_what_is_not_built_is_refused_by_name(given: dict[str, object]) -> None:
    with pytest.raises(Unsupported, match=next(iter(given))):
        parse_sampling(given, {})


def test_neutral_values_of_what_is_not_built_are_accepted() -> None:
    parse_sampling({"best_of": None, "length_penalty": "1.0", "bad_words": [], "prompt_logprobs": None}, {})
