"""Sampling parameters as callers write them, in vLLM's words.

Pure. A value may be a JSON string of a number ("0.1"), as Triton's vLLM clients send it. A name that is not vLLM's is
refused by name; one of vLLM's that is not built yet is accepted only at its neutral value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openmodel_runtime.errors import InvalidRequest, Unsupported
from openmodel_runtime.request import MAX_SEED, SamplingParams

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1, None),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "repetition_penalty": (1, 1.0),
    "length_penalty": (1, 1.0),
    "logprobs": (None,),
    "prompt_logprobs": (None,),
    "bad_words": (None, []),
    "logit_bias": (None, {}),
    "allowed_token_ids": (None,),
    "structured_outputs": (None,),
    "guided_decoding": (None,),
    "truncate_prompt_tokens": (None,),
    "lora_name": (None, ""),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "detokenize": (True,),
}
_LEAST_TEMPERATURE = 1e-5
_MAX_STOP_STRINGS = 64
_MAX_STOP_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the engine needs, and the stop strings that only text can show."""

    params: SamplingParams
    stop: tuple[str, ...]


def parse_sampling(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Sampling:
    """Checked parameters; `defaults` are the checkpoint's own, used where the caller is silent."""
    values: dict[str, Any] = {}
    stop: tuple[str, ...] = ()
    for name, value in {**defaults, **given}.items():
        if name == "stop":
            stop = _stop_strings(value)
        elif name in _PARSERS:
            if value is not None:
                values[name] = _PARSERS[name](name, value)
        elif name in _NEUTRAL:
            if _plain(value) not in _NEUTRAL[name]:
                raise Unsupported(f"sampling parameter {name!r} is not supported yet")
        else:
            raise InvalidRequest(
                f"unknown sampling parameter {name!r}; known: {', '.join(sorted({'stop', *_PARSERS}))}"
            )
    params = SamplingParams(**values)
    if params.min_tokens > params.max_tokens:
        raise InvalidRequest(f"min_tokens {params.min_tokens} is more than max_tokens {params.max_tokens}")
    return Sampling(params, stop)


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


def _stop_strings(value: Any) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else value or []
    if not isinstance(strings, list) or not all(isinstance(text, str) and text for text in strings):
        raise InvalidRequest(f"stop must be a string or a list of non-empty strings, not {value!r}")
    if len(strings) > _MAX_STOP_STRINGS or max(map(len, strings), default=0) > _MAX_STOP_CHARACTERS:
        raise InvalidRequest(
            f"stop may have {_MAX_STOP_STRINGS} strings of {_MAX_STOP_CHARACTERS} characters: each is looked for in "
            "every piece of text"
        )
    return tuple(strings)


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "temperature": _temperature,
    "top_p": _number(0, 1, float, open_low=True),
    "top_k": _top_k,
    "min_p": _number(0, 1, float),
    "seed": _number(0, MAX_SEED, int),
    "max_tokens": _number(1, 2**31 - 1, int),
    "min_tokens": _number(0, 2**31 - 1, int),
    "stop_token_ids": _token_ids,
    "ignore_eos": _flag,
}
