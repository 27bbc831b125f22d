"""Golden prompts: what a new revision has to answer as the old one does, token by token, before it may serve.

Pure: from a ConfigMap to prompts, and from answers to a verdict. `verifier` asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from openmodel_operator.reasons import Reason

_MOST_PROMPTS = 100
_MOST_TOKENS = 1024
_DEFAULT_TOKENS = 64
_KEEPS = "what serves keeps serving"
_NOTHING = "nothing serves"
_FORM = 'use {"text_input": "…"} or {"messages": […]}, with "max_tokens" and "tokens" (ids, a recording) if you like'


class GoldenPromptsError(ValueError):
    """The prompts can not be used; the message names the ConfigMap and the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenPrompt:
    """One prompt; it is answered greedily."""

    name: str
    tensor: str
    """text_input or messages."""
    content: str
    max_tokens: int
    recorded: tuple[int, ...] | None
    """Token ids of the answer, if they were written down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the prompts came to."""

    verified: bool | None
    """None: there was nothing to compare with, or it is not over."""
    reason: Reason
    message: str
    moves: bool
    """Whether the revision may serve."""
    passed: int = 0
    total: int = 0
    divergence: str = ""
    """The first: prompt, position, both tokens."""


def read_prompts(name: str, data: Mapping[str, str]) -> tuple[GoldenPrompt, ...]:
    """The prompts of a ConfigMap, one a key."""
    if not 1 <= len(data) <= _MOST_PROMPTS:
        raise GoldenPromptsError(
            f"ConfigMap {name} has {len(data)} keys: 1 to {_MOST_PROMPTS} prompts, one a key, can be used"
        )
    return tuple(_read(name, key, data[key]) for key in sorted(data))


def _read(name: str, key: str, text: str) -> GoldenPrompt:
    try:
        told: dict[str, Any] = json.loads(text)
        tensor = "messages" if "messages" in told else "text_input"
        content = told[tensor] if tensor == "text_input" else json.dumps(told[tensor], allow_nan=False)
        content.encode()
        tokens = told.get("tokens")
        prompt = GoldenPrompt(
            name=key,
            tensor=tensor,
            content=content,
            max_tokens=int(told.get("max_tokens", len(tokens) if tokens else _DEFAULT_TOKENS)),
            recorded=None if tokens is None else tuple(map(int, tokens)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise GoldenPromptsError(f"ConfigMap {name}, key {key}: is no prompt: {_FORM}") from None
    if not isinstance(content, str) or not 1 <= prompt.max_tokens <= _MOST_TOKENS:
        raise GoldenPromptsError(f"ConfigMap {name}, key {key}: max_tokens must be 1 to {_MOST_TOKENS}; {_FORM}")
    return prompt


def divergence(prompt: str, expected: Sequence[int], found: Sequence[int]) -> str:
    """Where two answers part first; "" when they do not."""
    for position, (one, other) in enumerate(zip_longest(expected, found)):
        if one != other:
            ends = "its end"
            return (
                f"prompt {prompt}, position {position}: token {ends if one is None else one} was expected, "
                f"{ends if other is None else other} came"
            )
    return ""


def verdict(differences: Sequence[str], against: str, *, report: bool, serves: bool) -> Verification:
    """From the differences of all prompts, "" for none, to what follows.

    Args:
        differences: of each prompt.
        against: what was compared with.
        report: it may serve in any case.
        serves: whether another revision does.
    """
    found = [difference for difference in differences if difference]
    passed, total = len(differences) - len(found), len(differences)
    if not found:
        return Verification(
            verified=True,
            reason=Reason.VERIFIED,
            message=f"{total} of {total} golden prompts gave the tokens of {against}",
            moves=True,
            passed=passed,
            total=total,
        )
    what = f"{_KEEPS if serves else _NOTHING}; change the spec back, or accept it by spec.rollout.verify.mode: Report"
    if report:
        what = "it serves all the same, as spec.rollout.verify.mode is Report"
    return Verification(
        verified=False,
        reason=Reason.DIVERGED,
        message=f"{passed} of {total} golden prompts gave the tokens of {against}; the first that did not: {found[0]}; "
        f"{what}",
        moves=report,
        passed=passed,
        total=total,
        divergence=found[0],
    )
