"""Sampling parameters as callers write them, in vLLM's words.

Pure. A value may be a JSON string of a number ("0.1"), as Triton's vLLM clients send it. A name that is not vLLM's is
refused by name; one of vLLM's that is not built yet is accepted only at its neutral value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.front.structured_outputs import parse_structured_outputs
from openmodel_runtime.request import MAX_SEED, SamplingParams

MAX_COMPLETIONS = 64
"""Completions of one request. Each takes a place in the queue: more would let one caller fill the steps of a rank."""
MAX_LOGPROBS = 20
"""Likeliest tokens that are told with each token; vLLM's own limit."""
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "length_penalty": (1, 1.0),
    "prompt_logprobs": (None,),
    "bad_words": (None, []),
    "logit_bias": (None, {}),
    "allowed_token_ids": (None,),
    "truncate_prompt_tokens": (None,),
    "lora_name": (None, ""),
    "spaces_between_special_tokens": (True,),
    "detokenize": (True,),
}
_LEAST_TEMPERATURE = 1e-5
_MAX_STOP_STRINGS = 64
_MAX_STOP_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the engine needs, and what only text can show."""

    params: SamplingParams
    """As the caller has it; `seed` is the first completion's."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; looked for from `params.min_tokens` on."""
    n: int = 1
    """Completions to generate."""
    include_stop: bool = False
    """True: what ended the completion, a stop string or token, is part of its text."""
    skip_special_tokens: bool = True
    """True: special tokens have no text."""
    logprobs: int | None = None
    """Likeliest tokens that the caller wants with each token; None for no log-probabilities. The engine's own
    `params.logprobs` follows the outputs that the request has."""

    def of_completion(self, index: int) -> SamplingParams:
        """vLLM's rule: completion `index` of several has the seed of the first plus its index."""
        if self.params.seed is None or index == 0:
            return self.params
        return msgspec.structs.replace(self.params, seed=(self.params.seed + index) % (MAX_SEED + 1))


def parse_sampling(
    given: Mapping[str, Any], defaults: Mapping[str, Any], called: Mapping[str, str] | None = None
) -> Sampling:
    """Checked parameters; `defaults` are the checkpoint's own, used where the caller is silent.

    `called` has the caller's own name of a parameter, where it is another. InvalidRequest and Unsupported name it.
    """
    names = called or {}
    values: dict[str, Any] = {}
    for name, value in {**defaults, **given}.items():
        told = names.get(name, name)
        if parse := _PARSERS.get(name):
            if value is not None:
                values[_FIELDS.get(name, name)] = parse(told, value)
        elif name in _NEUTRAL:
            if _plain(value) not in _NEUTRAL[name]:
                raise Unsupported(f"sampling parameter {told!r} is not supported yet")
        else:
            raise InvalidRequest(f"unknown sampling parameter {told!r}; known: {', '.join(sorted(_PARSERS))}")
    n = values.pop("n", 1)
    if values.pop("best_of", n) != n:
        raise Unsupported(f"{names.get('best_of', 'best_of')} is not supported beside another n: leave it out")
    sampling = Sampling(
        stop=values.pop("stop", ()),
        n=n,
        include_stop=values.pop("include_stop_str_in_output", False),
        skip_special_tokens=values.pop("skip_special_tokens", True),
        logprobs=values.get("logprobs"),
        params=SamplingParams(**values),
    )
    params = sampling.params
    _check_together(params, names)
    return sampling


def _check_together(params: SamplingParams, names: Mapping[str, str]) -> None:
    if params.min_tokens > params.max_tokens:
        least, most = (names.get(name, name) for name in ("min_tokens", "max_tokens"))
        raise InvalidRequest(f"{least} {params.min_tokens} is more than {most} {params.max_tokens}")
    if params.grammar:
        # Where a structure ends, nothing but an end token may come.
        for name, given in (("ignore_eos", params.ignore_eos), ("min_tokens", params.min_tokens)):
            if given:
                raise InvalidRequest(
                    f"{names.get(name, name)} beside structured_outputs: the structure says where it ends"
                )


def _plain(value: Any) -> Any:
    """A number that was sent as a string, as the number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _number(
    low: float, high: float, kind: type[int] | type[float], open_low: bool = False
) -> Callable[[str, Any], Any]:
    def parse(name: str, value: Any) -> Any:
        try:
            if isinstance(value, bool) or (kind is int and isinstance(value, float)):
                raise ValueError
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise InvalidRequest(f"{name} must be a number, not {value!r}") from None
        # A NaN fails every comparison, so it is refused here too.
        if not (low < number if open_low else low <= number) or not number <= high:
            raise InvalidRequest(
                f"{name} must be {'more than' if open_low else 'at least'} {low:g} and at most {high:g}, not {value!r}"
            )
        return number

    return parse


def _flag(name: str, value: Any) -> bool:
    if value in (True, False) and isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidRequest(f"{name} must be true or false, not {value!r}")


def _temperature(name: str, value: Any) -> float:
    number = float(_number(0, 100, float)(name, value))
    # Dividing by less would overflow; vLLM too takes it for greedy.
    return number if number >= _LEAST_TEMPERATURE else 0.0


def _top_k(name: str, value: Any) -> int:
    # vLLM's -1 and 0 both mean all tokens.
    return max(0, int(_number(-1, 2**31 - 1, int)(name, value)))


def _token_ids(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(
        isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 2**31 for token in value
    ):
        raise InvalidRequest(f"{name} must be a list of token ids, not {value!r}")
    return tuple(dict.fromkeys(value))


def _stop_strings(name: str, value: Any) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else value or []
    if not isinstance(strings, list) or not all(isinstance(text, str) and text for text in strings):
        raise InvalidRequest(f"{name} must be a string or a list of non-empty strings, not {value!r}")
    if len(strings) > _MAX_STOP_STRINGS or max(map(len, strings), default=0) > _MAX_STOP_CHARACTERS:
        raise InvalidRequest(
            f"{name} may have {_MAX_STOP_STRINGS} strings of {_MAX_STOP_CHARACTERS} characters: each is looked for in "
            "every piece of text"
        )
    return tuple(strings)


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "n": _number(1, MAX_COMPLETIONS, int),
    "best_of": _number(1, MAX_COMPLETIONS, int),
    "temperature": _temperature,
    "top_p": _number(0, 1, float, open_low=True),
    "top_k": _top_k,
    "min_p": _number(0, 1, float),
    # vLLM takes all above 0; logits divided by less than this, or multiplied by more, may overflow.
    "repetition_penalty": _number(0.01, 100, float),
    "presence_penalty": _number(-2, 2, float),
    "frequency_penalty": _number(-2, 2, float),
    "seed": _number(0, MAX_SEED, int),
    "max_tokens": _number(1, 2**31 - 1, int),
    "min_tokens": _number(0, 2**31 - 1, int),
    "stop": _stop_strings,
    "stop_token_ids": _token_ids,
    "ignore_eos": _flag,
    "include_stop_str_in_output": _flag,
    "skip_special_tokens": _flag,
    "logprobs": _number(0, MAX_LOGPROBS, int),
    "structured_outputs": parse_structured_outputs,
    # What the same was called before.
    "guided_decoding": parse_structured_outputs,
}
_FIELDS = {"structured_outputs": "grammar", "guided_decoding": "grammar"}
