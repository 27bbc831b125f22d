"""Log-probabilities as vLLM's backend for Triton tells them: a JSON list with an object for each token.

Pure. An object has the chosen token and the likeliest ones by id, each with `logprob`, `rank` (1 is the likeliest,
null when the token is not among those that were asked for) and `decoded_token`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable

from openmodel_runtime.request import TokenOutput

TokenText = Callable[[int], str]
# JSON has no infinity; this is what vLLM's servers write for a token that can not be.
_LEAST = -9999.0


def logprobs_json(outputs: Iterable[TokenOutput], token_text: TokenText) -> bytes:
    """The list for these tokens; `token_text` is the text of one token by itself."""
    return json.dumps([_of_token(output, token_text) for output in outputs]).encode()


def _of_token(output: TokenOutput, token_text: TokenText) -> dict[int, dict[str, float | int | str | None]]:
    ranks = {each.token: rank for rank, each in enumerate(output.top_logprobs, start=1)}
    likely = [(each.token, each.logprob) for each in output.top_logprobs]
    # The chosen token comes first, as in vLLM, and once.
    told = {output.token: output.logprob if output.logprob is not None else -math.inf} | dict(likely)
    return {
        token: {"logprob": max(logprob, _LEAST), "rank": ranks.get(token), "decoded_token": token_text(token)}
        for token, logprob in told.items()
    }
