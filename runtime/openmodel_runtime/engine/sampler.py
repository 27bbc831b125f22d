"""Choice of the next token from logits.

A request's random numbers come from its seed and the token's position alone, so that neither the batch nor the order
of arrival changes what is sampled. V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openmodel_runtime.request import SamplingParams


def sample_token(logits_V: Tensor, params: SamplingParams, position: int, forbidden: Tensor | None) -> int:
    """The next token of one sequence.

    Args:
        logits_V: float32 logits.
        params: how to choose.
        position: position of the new token in the sequence; with the seed it decides the random number.
        forbidden: ids that may not be chosen (end tokens before `min_tokens`), or None.
    """
    if forbidden is not None:
        logits_V = logits_V.index_fill(0, forbidden, float("-inf"))
    if params.temperature == 0.0:
        return int(logits_V.argmax())
    return _draw(_filtered_probabilities(logits_V / params.temperature, params), params.seed, position)


def _filtered_probabilities(logits_V: Tensor, params: SamplingParams) -> Tensor:
    probabilities_V = torch.softmax(logits_V, dim=-1)
    ordered_V, index_V = probabilities_V.sort(descending=True, stable=True)
    keep_V = torch.ones_like(ordered_V, dtype=torch.bool)
    if params.top_k:
        keep_V[params.top_k :] = False
    if params.top_p < 1.0:
        # A token stays while the likelier ones together have not reached top_p: the first always stays.
        keep_V &= ordered_V.cumsum(0) - ordered_V < params.top_p
    if params.min_p > 0.0:
        keep_V &= ordered_V >= params.min_p * ordered_V[0]
    keep_V[0] = True
    return torch.zeros_like(probabilities_V).index_put_((index_V[keep_V],), ordered_V[keep_V])


def _draw(probabilities_V: Tensor, seed: int | None, position: int) -> int:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        # Any two (seed, position) pairs start unrelated streams: the generator hashes its 64-bit seed.
        generator.manual_seed((seed * 0x9E3779B97F4A7C15 + position) % 2**63)
    threshold = torch.rand((), generator=generator, dtype=torch.float64) * probabilities_V.double().sum()
    drawn = int(torch.searchsorted(probabilities_V.double().cumsum(0), threshold, right=True))
    # Rounding may push the threshold past the last token that has any probability.
    return min(drawn, int(probabilities_V.nonzero()[-1]))
