"""What a completion must look like, from vLLM's words to a grammar in llguidance's.

Pure. Says what is wrong with the form of a request; what is wrong with a grammar is found where it is compiled, beside
the model's vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from llguidance import LLMatcher, grammar_from

from openmodel_runtime.errors import InvalidRequest, Unsupported

MAX_GRAMMAR_CHARACTERS = 1 << 16
"""Of a schema, a regular expression or a grammar as it is sent: what takes long to compile is longer."""


def parse_structured_outputs(name: str, value: Any) -> str:
    """The grammar; InvalidRequest and Unsupported name what is wrong with `value`, a JSON object or its text."""
    value = _of_json(name, value)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} must be an object with one of {', '.join(_KINDS)}")
    for key in value:
        if key in _NOT_OFFERED and not value[key]:
            continue
        if key not in _KINDS and key not in _OPTIONS:
            refusal = Unsupported if key in _NOT_OFFERED else InvalidRequest
            raise refusal(f"{name}.{key} is not supported; known: {', '.join((*_KINDS, *_OPTIONS))}")
    kinds = [kind for kind in _KINDS if value.get(kind) not in (None, False)]
    if len(kinds) != 1:
        raise InvalidRequest(f"{name} needs exactly one of {', '.join(_KINDS)}, not {' and '.join(kinds) or 'none'}")
    kind = kinds[0]
    grammar = _KINDS[kind](f"{name}.{kind}", value[kind], _whitespace(name, value))
    if len(grammar) > MAX_GRAMMAR_CHARACTERS:
        raise InvalidRequest(
            f"{name}.{kind} has {len(grammar)} characters as a grammar, {MAX_GRAMMAR_CHARACTERS} are allowed"
        )
    return grammar


def _of_json(name: str, value: Any) -> Any:
    """What a text says, for callers who send JSON as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name} is not JSON: {error}") from None


def _whitespace(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """llguidance's options for what may stand between the parts of JSON."""
    options: dict[str, Any] = {}
    tight, pattern = value.get("disable_any_whitespace"), value.get("whitespace_pattern")
    if tight not in (None, True, False):
        raise InvalidRequest(f"{name}.disable_any_whitespace must be true or false, not {tight!r}")
    if tight:
        options["whitespace_flexible"] = False
    if pattern is not None:
        if not isinstance(pattern, str):
            raise InvalidRequest(f"{name}.whitespace_pattern must be a regular expression, not {pattern!r}")
        options["whitespace_pattern"] = pattern
    return options


def _json(name: str, value: Any, whitespace: dict[str, Any]) -> str:
    value = _of_json(name, value)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} must be a JSON schema, an object, not {value!r}")
    return LLMatcher.grammar_from_json_schema(value, overrides=whitespace or None)  # type: ignore[arg-type]


def _json_object(name: str, value: Any, whitespace: dict[str, Any]) -> str:
    if value is not True:
        raise InvalidRequest(f"{name} must be true, not {value!r}")
    return _json(name, {"type": "object"}, whitespace)


def _regex(name: str, value: Any, _: dict[str, Any]) -> str:
    return LLMatcher.grammar_from_regex(_text(name, value))


def _grammar(name: str, value: Any, _: dict[str, Any]) -> str:
    text = _text(name, value)
    if len(text) > MAX_GRAMMAR_CHARACTERS:
        raise InvalidRequest(f"{name} has {len(text)} characters, {MAX_GRAMMAR_CHARACTERS} are allowed")
    try:
        return grammar_from("grammar", text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name}: {error}") from None


def _choice(name: str, value: Any, _: dict[str, Any]) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise InvalidRequest(f"{name} must be a list of non-empty strings, not {value!r}")
    return LLMatcher.grammar_from_lark("start: " + " | ".join(json.dumps(item) for item in value))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name} must be a non-empty string, not {value!r}")
    return value


_KINDS: dict[str, Callable[[str, Any, dict[str, Any]], str]] = {
    "json": _json,
    "json_object": _json_object,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
}
_OPTIONS = ("disable_any_whitespace", "whitespace_pattern")
_NOT_OFFERED = frozenset({"structural_tag", "disable_additional_properties", "disable_fallback"})
