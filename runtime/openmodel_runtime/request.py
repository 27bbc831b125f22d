"""A generation as the engine sees it: token ids in, token ids out.

These types travel between the front and the rank, so they are msgspec structs: typed, frozen, cheap to encode.
Knows no text and no tensor names.
"""

from __future__ import annotations

import msgspec

from openmodel_runtime.errors import InternalError, InvalidRequest, OutOfMemory, RequestError, Unsupported

MAX_SEED = 2**64 - 1


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen and when to stop, in vLLM's words."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Smallest set of tokens whose probability reaches this share."""
    top_k: int = 0
    """The best k tokens; 0 is all of them."""
    min_p: float = 0.0
    """Tokens at least this likely, relative to the likeliest."""
    repetition_penalty: float = 1.0
    """Logits of tokens that prompt or completion have are divided by it (multiplied when negative)."""
    presence_penalty: float = 0.0
    """Taken once from the logits of tokens that the completion has."""
    frequency_penalty: float = 0.0
    """Taken from the logits of tokens that the completion has, for each time it has them."""
    seed: int | None = None
    """With a seed the sampled tokens repeat; seed and position decide, not the batch."""
    max_tokens: int = 16
    """Most tokens of the completion."""
    min_tokens: int = 0
    """No stop token ends the completion before this many."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the completion, beside the model's own."""
    ignore_eos: bool = False
    """True: the model's own end tokens do not end the completion."""
    grammar: str = ""
    """What the completion follows, in llguidance's words; "" for anything."""
    logprobs: int | None = None
    """Log-probabilities wanted with each token: None for none, 0 for the token's own, k for the k likeliest too."""


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One completion to generate."""

    request_id: int
    """Unique among the requests of a rank."""
    prompt: tuple[int, ...]
    """Token ids, at least one."""
    sampling: SamplingParams


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token and its natural-log probability under the model (before temperature, penalties and filters)."""

    token: int
    logprob: float


class TokenOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One generated token."""

    request_id: int
    token: int
    finish_reason: str = ""
    """"stop" or "length" with the last token, else ""."""
    logprob: float | None = None
    """Natural-log probability of the token, when `logprobs` asks for it."""
    top_logprobs: tuple[TokenLogprob, ...] = ()
    """The likeliest tokens, likeliest first, as many as `logprobs` asks for."""
    cached_prompt_tokens: int = 0
    """Tokens of the prompt that were not computed because the prefix cache had them."""


class RequestFailed(msgspec.Struct, frozen=True):
    """A request that was given up: memory did not suffice, or its grammar can not be followed."""

    request_id: int
    error: str
    """Name of one of `_ERRORS`."""
    message: str

    @classmethod
    def of(cls, request_id: int, error: RequestError) -> RequestFailed:
        """Because of an error."""
        return cls(request_id, type(error).__name__, str(error))

    def to_error(self) -> RequestError:
        """The error again."""
        return _ERRORS[self.error](self.message)


_ERRORS = {error.__name__: error for error in (InvalidRequest, Unsupported, OutOfMemory, InternalError)}
