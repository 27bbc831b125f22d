"""Causal attention over a paged cache, block by block with a running softmax (Milakov and Gimelshein, 2018).

N rows of one sequence, G key/value heads, R query heads each, C head dimension, S tokens of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openmodel_kernels.interface import AttentionRule, LayerCache, SequenceRows
from openmodel_kernels.reference.activation import tanh

BLOCK_TOKENS = 32
# The score of a token that is not seen: finite, so that a row which has seen nothing yet has a maximum to go on from.
_HIDDEN = -1e30


def write_sequence(part: SequenceRows, k_NGC: Tensor, v_NGC: Tensor, cache: LayerCache) -> None:
    """Writes a sequence's new keys and values to its blocks, which lie as (G, S, C)."""
    for row in range(part.rows):
        position = part.context + row
        block, offset = part.blocks[position // BLOCK_TOKENS], position % BLOCK_TOKENS
        if offset == 0:
            # What another sequence left behind has weight 0, and 0 times a NaN would be one.
            cache.values_BGX[block] = 0
        cache.keys_BGX[block].view(k_NGC.shape[1], BLOCK_TOKENS, -1)[:, offset] = k_NGC[row]
        cache.values_BGX[block].view(v_NGC.shape[1], BLOCK_TOKENS, -1)[:, offset] = v_NGC[row]


def attend_sequence(part: SequenceRows, q_NGRC: Tensor, cache: LayerCache, rule: AttentionRule) -> Tensor:
    """Attention of a sequence's rows, float32, the shape of `q_NGRC`.

    Products are element-wise and summed over one dimension of fixed length, so that a row's sum is the same whatever
    rows stand beside it.
    """
    rows, groups, _, dim = q_NGRC.shape
    q = q_NGRC.float()
    positions_N = torch.arange(part.context, part.context + rows)
    out = torch.zeros_like(q)
    total = torch.zeros(q.shape[:-1])
    top = torch.full(q.shape[:-1], float("-inf"))
    if rule.sinks_H is not None:
        total, top = total + 1, rule.sinks_H.view(q.shape[1:-1]).expand_as(top)
    for index in range((part.context + rows - 1) // BLOCK_TOKENS + 1):
        keys_GSC = cache.keys_BGX[part.blocks[index]].view(groups, BLOCK_TOKENS, dim).float()
        values_GSC = cache.values_BGX[part.blocks[index]].view(groups, BLOCK_TOKENS, dim).float()
        tokens_S = torch.arange(index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS)
        visible_NS = tokens_S[None] <= positions_N[:, None]
        if rule.window is not None:
            visible_NS = visible_NS & (tokens_S[None] > positions_N[:, None] - rule.window)
        scores = (q[..., None, :] * keys_GSC[None, :, None]).sum(-1) * rule.scale
        if rule.softcap is not None:
            scores = rule.softcap * tanh(scores / rule.softcap)
        scores = scores.masked_fill(~visible_NS[:, None, None], _HIDDEN)
        next_top = torch.maximum(top, scores.amax(-1))
        factor = torch.exp(top - next_top)
        weights = torch.exp(scores - next_top[..., None])
        total = total * factor + weights.sum(-1)
        weighted = weights.to(cache.values_BGX.dtype).float()[..., None] * values_GSC[None, :, None]
        out = out * factor[..., None] + weighted.transpose(-1, -2).contiguous().sum(-1)
        top = next_top
    return out / total[..., None]
