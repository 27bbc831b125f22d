"""Choice of the next token from logits.

Each sequence's choice comes from its own row, its own parameters, and a random number of its seed and position: neither
the batch nor the order of arrival changes it. S sequences, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Items

import torch
from torch import Tensor

from openmodel_kernels.allowed import only_allowed
from openmodel_runtime.engine.random_numbers import uniform
from openmodel_runtime.engine.sequence import SampledToken, Sequence
from openmodel_runtime.request import SamplingParams, TokenLogprob

# Filters by probability rarely keep more than this; then the whole vocabulary is sorted.
_LIKELIEST = 1024


def sample(
    logits_SV: Tensor,
    likeliest: Items[int],
    sequences: Items[Sequence],
    allowed_SO: Tensor | None,
    eos_token_ids: frozenset[int],
) -> list[SampledToken]:
    """The next token of each sequence.

    Args:
        logits_SV: float32 logits, a row for each sequence.
        likeliest: the best token of each row that may come.
        sequences: with their tokens so far.
        allowed_SO: the tokens that may come in each, as bits; None for all.
        eos_token_ids: the model's end tokens, which `min_tokens` holds back.
    """
    return [
        SampledToken(likeliest[row])
        if _is_plain(sequence)
        else _sample_one(
            logits_SV[row], sequence, None if allowed_SO is None else allowed_SO[row : row + 1], eos_token_ids
        )
        for row, sequence in enumerate(sequences)
    ]


def _is_plain(sequence: Sequence) -> bool:
    """True when the likeliest token that may come is the answer."""
    params = sequence.request.sampling
    return (
        params.temperature == 0.0
        and params.logprobs is None
        and params.repetition_penalty == 1.0
        and params.presence_penalty == 0.0
        and params.frequency_penalty == 0.0
        and sequence.num_generated >= params.min_tokens
    )


def _sample_one(
    logits_V: Tensor, sequence: Sequence, allowed_1O: Tensor | None, eos_token_ids: frozenset[int]
) -> SampledToken:
    params = sequence.request.sampling
    adjusted_V = _adjusted(logits_V, sequence, eos_token_ids)
    if allowed_1O is not None and sequence.matcher is not None:
        adjusted_V = only_allowed(adjusted_V[None], allowed_1O)[0]
    if params.temperature == 0.0:
        token = int(adjusted_V.argmax())
    else:
        assert params.seed is not None
        weights, ids = _candidates(adjusted_V / params.temperature, params)
        drawn = _draw(weights, uniform(params.seed, len(sequence.tokens)))
        token = drawn if ids is None else int(ids[drawn])
    if params.logprobs is None:
        return SampledToken(token)
    logprobs_V = torch.log_softmax(logits_V, dim=-1)
    best, ids = logprobs_V.topk(params.logprobs)
    top = tuple(TokenLogprob(*pair) for pair in zip(ids.tolist(), best.tolist(), strict=True))
    return SampledToken(token, float(logprobs_V[token]), top)


def _adjusted(logits_V: Tensor, sequence: Sequence, eos_token_ids: frozenset[int]) -> Tensor:
    """Logits after penalties, end tokens shut out before `min_tokens`; the row itself stays as it is."""
    params = sequence.request.sampling
    completion = sequence.completion
    adjusted_V = logits_V.clone()
    if params.repetition_penalty != 1.0:
        seen = torch.tensor(sorted(set(sequence.tokens)), device=logits_V.device)
        values, penalty = adjusted_V[seen], params.repetition_penalty
        adjusted_V[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if completion and (params.presence_penalty or params.frequency_penalty):
        counts = sorted(Counter(completion).items())
        ids = torch.tensor([token for token, _ in counts], device=logits_V.device)
        times = torch.tensor([count for _, count in counts], dtype=torch.float32, device=logits_V.device)
        adjusted_V[ids] -= params.presence_penalty + params.frequency_penalty * times
    if sequence.num_generated < params.min_tokens:
        ends = sequence.stop_token_ids if params.ignore_eos else sequence.stop_token_ids | eos_token_ids
        adjusted_V[torch.tensor(sorted(ends), dtype=torch.long, device=logits_V.device)] = float("-inf")
    return adjusted_V


def _candidates(logits_V: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor | None]:
    """Weights of the tokens that may be drawn, and their ids (None: every token, in order of id).

    In vLLM's order: the best k, then of those the smallest set that reaches top_p, then those likely enough.
    """
    if not params.top_k and params.top_p == 1.0 and params.min_p == 0.0:
        return torch.softmax(logits_V, dim=-1), None
    size = logits_V.shape[0]
    count = min(size, params.top_k or _LIKELIEST)
    weights, ids = _best(logits_V, count, params)
    if not params.top_k and count < size and bool(_keep(weights, params)[-1]):
        weights, ids = _best(logits_V, size, params)
    keep = _keep(weights, params)
    return weights[keep], ids[keep]


def _best(logits_V: Tensor, count: int, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Probabilities of the likeliest tokens, likeliest first; of all tokens, or among the best k."""
    best, ids = logits_V.topk(count)
    total = torch.logsumexp(best if params.top_k else logits_V, dim=-1)
    return torch.exp(best - total), ids


def _keep(weights: Tensor, params: SamplingParams) -> Tensor:
    # A token stays while the likelier ones together have not reached top_p: the first always stays.
    keep = weights.cumsum(0) - weights < params.top_p
    keep &= weights >= params.min_p * weights[0]
    keep[0] = True
    return keep


def _draw(weights: Tensor, number: float) -> int:
    """Index of the weight that a number in [0, 1) falls on."""
    sums = weights.double().cumsum(0)
    drawn = int(torch.searchsorted(sums, number * sums[-1], right=True))
    # Rounding may push the number past the last token that has any weight.
    return min(drawn, int(weights.nonzero()[-1]))
