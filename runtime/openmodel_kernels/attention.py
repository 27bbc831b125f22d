"""Causal attention of one sequence over its cached keys and values.

N new tokens, S cached tokens including the new ones, H query heads, G key/value heads, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def causal_attention(q_NHD: Tensor, k_GSD: Tensor, v_GSD: Tensor, scale: float) -> Tensor:
    """Softmax attention in which new token n sees the cached tokens 0 … S - N + n.

    Grouped queries: query head h reads key/value head h * G // H.

    Returns:
        (N, H, D) in the dtype of `q_NHD`.
    """
    new, cached = q_NHD.shape[0], k_GSD.shape[1]
    mask_NS = None
    if 1 < new < cached:
        mask_NS = torch.ones(new, cached, dtype=torch.bool, device=q_NHD.device).tril(cached - new)
    out_HND = scaled_dot_product_attention(
        q_NHD.transpose(0, 1)[None],
        k_GSD[None],
        v_GSD[None],
        attn_mask=mask_NS,
        is_causal=new == cached and new > 1,
        scale=scale,
        enable_gqa=True,
    )
    return out_HND[0].transpose(0, 1)
