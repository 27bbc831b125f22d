"""Multi-head latent attention (DeepSeek-V2, 2024), computed in the latent space, where one key serves all heads.

A head's query goes to the latent space and meets the compressed keys there; what it finds, a mean of compressed values,
comes back by the head's own product. So the cache holds one key for all heads, and prompts and decoding compute the
same.
T tokens, H heads, R rotated elements, Q a head's elements without positions, L latent width, V a head's value width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openmodel_kernels.interface import AttentionRule
from openmodel_runtime.checkpoint.model_config import LatentConfig, ModelConfig
from openmodel_runtime.models.block_input import BlockInput
from openmodel_runtime.models.layers import GroupedLinear, Layer, Linear, Numerics, RMSNorm


class LatentAttention(Layer):
    """One key/value head of R + L elements, read by all query heads."""

    def __init__(self, config: ModelConfig, latent: LatentConfig, numerics: Numerics, layer: int) -> None:
        attention, heads = config.attention, config.attention.heads
        self._kernels = numerics.kernels
        self._latent = latent
        self._heads = heads
        self._layer = layer
        self._rule = AttentionRule(attention.scale, attention.windows[layer], attention.softcap)
        width, bias = heads * (latent.rotary_dim + latent.head_dim), attention.qkv_bias
        self.query_down: Linear | None = None
        if latent.query_rank is not None:
            self.query_down = Linear(numerics, latent.query_rank, config.hidden_size, bias=bias)
            self.query_norm = RMSNorm(numerics, latent.query_rank, config.rms_norm_eps)
        self.query = Linear(numerics, width, latent.query_rank or config.hidden_size)
        self.key = Linear(numerics, latent.cached_dim, config.hidden_size, bias=bias)
        self.key_norm = RMSNorm(numerics, latent.kv_rank, config.rms_norm_eps)
        self.to_latent = GroupedLinear(numerics, heads, latent.kv_rank, latent.head_dim)
        self.from_latent = GroupedLinear(numerics, heads, latent.value_dim, latent.kv_rank)
        self.out = Linear(numerics, config.hidden_size, heads * latent.value_dim, bias=attention.out_bias)

    def __call__(self, x_TD: Tensor, into: BlockInput, residual_TD: Tensor | None) -> Tensor:
        """Projects, writes the new latent keys to the cache, attends, projects back, adds the residual."""
        cache, heads = into.caches[self._layer], self._heads
        qkv_TX = self._project(x_TD)
        self._kernels.write_cache(into.step, qkv_TX, heads, into.cos_TC, into.sin_TC, cache)
        found_TX = self._kernels.attention(into.step, qkv_TX, heads, cache, self._rule)
        found_HTL = found_TX.view(len(x_TD), heads, -1)[..., self._latent.rotary_dim :].transpose(0, 1).contiguous()
        values_HTV = self.from_latent(found_HTL)
        return self.out(values_HTV.transpose(0, 1).reshape(len(x_TD), -1), residual_TD)

    def _project(self, x_TD: Tensor) -> Tensor:
        """Queries in the latent space, the key, and the key again as the value, side by side."""
        rotary, tokens = self._latent.rotary_dim, len(x_TD)
        down_TD = x_TD if self.query_down is None else self.query_norm(self.query_down(x_TD))
        queries_THX = self.query(down_TD).view(tokens, self._heads, -1)
        latent_HTL = self.to_latent(queries_THX[..., rotary:].transpose(0, 1).contiguous())
        key_TX = self.key(x_TD)
        normed_TL = self.key_norm(key_TX[:, rotary:].contiguous())
        qkv_THX = x_TD.new_empty((tokens, self._heads + 2, self._latent.cached_dim))
        qkv_THX[:, :-2, :rotary] = queries_THX[..., :rotary]
        qkv_THX[:, :-2, rotary:] = latent_HTL.transpose(0, 1)
        qkv_THX[:, -2:, :rotary] = key_TX[:, None, :rotary]
        qkv_THX[:, -2:, rotary:] = normed_TL[:, None]
        return qkv_THX.view(tokens, -1)


def split_key_value(kv_b_XL: Tensor, heads: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """`kv_b_proj` as products to the latent space (H, L, Q) and back (H, V, L)."""
    both_HXL = kv_b_XL.view(heads, -1, kv_b_XL.shape[1])
    return both_HXL[:, :head_dim].transpose(1, 2), both_HXL[:, head_dim:]


def pairs_to_halves(weight_XD: Tensor) -> Tensor:
    """Rows of rotated pairs (0, 1), (2, 3), … in the order that kernels rotate them in: firsts, then seconds."""
    return torch.cat((weight_XD[0::2], weight_XD[1::2]))
