"""Blocks that decoder-only models share: attention, dense and routed feed-forward, and the stack itself.

T tokens of a step (all sequences one after another), D hidden dimension, H query heads, G key/value heads,
C head dimension, S rows whose next token is wanted, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openmodel_kernels.interface import LayerCache
from openmodel_kernels.rotary import inverse_frequencies, rotary_tables
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.layers import Experts, Layer, Linear, Numerics, RMSNorm


@dataclass(frozen=True, slots=True)
class StepInput:
    """What one step computes."""

    tokens_T: Tensor
    """Token ids."""
    positions_T: Tensor
    """Position of each token in its sequence."""
    attention: Any
    """From the kernels' `attention_step`."""
    caches: Sequence[LayerCache]
    """One a layer."""
    sampled_S: Tensor | None
    """Rows whose next token is wanted; None is all of them."""


@dataclass(frozen=True, slots=True)
class AttentionInput:
    """The step as an attention layer needs it."""

    step: Any
    cos_TC: Tensor
    sin_TC: Tensor
    caches: Sequence[LayerCache]


class Attention(Layer):
    """Grouped-query attention with rotary positions over the paged cache."""

    def __init__(self, config: ModelConfig, numerics: Numerics, layer: int) -> None:
        self._kernels = numerics.kernels
        self._layer = layer
        self._heads = config.num_heads
        self._scale = config.head_dim**-0.5
        q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.qkv = Linear(numerics, q_dim + 2 * kv_dim, config.hidden_size)
        self.out = Linear(numerics, config.hidden_size, q_dim)

    def __call__(self, x_TD: Tensor, into: AttentionInput, residual_TD: Tensor) -> Tensor:
        """Projects, writes the new keys and values to the cache, attends, projects back, adds the residual."""
        qkv_TX = self.qkv(x_TD)
        cache = into.caches[self._layer]
        self._kernels.write_cache(into.step, qkv_TX, self._heads, into.cos_TC, into.sin_TC, cache)
        out_TX = self._kernels.attention(into.step, qkv_TX, self._heads, cache, self._scale)
        return self.out(out_TX, residual_TD)


class DenseFeedForward(Layer):
    """The gated feed-forward block of a dense model: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig, numerics: Numerics) -> None:
        self.gate_up = Linear(numerics, 2 * config.intermediate_size, config.hidden_size, gated=True)
        self.down = Linear(numerics, config.hidden_size, config.intermediate_size)

    def __call__(self, x_TD: Tensor, residual_TD: Tensor) -> Tensor:
        """The block's output on top of the residual."""
        return self.down(self.gate_up(x_TD), residual_TD)


class RoutedFeedForward(Layer):
    """A mixture of gated experts, each token routed to its best K."""

    def __init__(self, config: ModelConfig, numerics: Numerics) -> None:
        self._kernels = numerics.kernels
        self._top_k = config.num_experts_per_tok
        self.router = Linear(numerics, config.num_experts, config.hidden_size)
        self.experts = Experts(numerics, config.num_experts, config.hidden_size, config.intermediate_size)

    def __call__(self, x_TD: Tensor, residual_TD: Tensor) -> Tensor:
        """The routed experts' weighted sum on top of the residual."""
        routing = self._kernels.route(self.router.logits(x_TD), self._top_k, renormalize=True)
        return self.experts(x_TD, routing, residual_TD)


FeedForward = DenseFeedForward | RoutedFeedForward


class Block(Layer):
    """Pre-norm attention and feed-forward with residuals."""

    def __init__(self, config: ModelConfig, numerics: Numerics, layer: int, feed_forward: FeedForward) -> None:
        self.attention_norm = RMSNorm(numerics, config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, numerics, layer)
        self.feed_forward_norm = RMSNorm(numerics, config.hidden_size, config.rms_norm_eps)
        self.feed_forward = feed_forward

    def __call__(self, x_TD: Tensor, into: AttentionInput) -> Tensor:
        """One block of the stack."""
        x_TD = self.attention(self.attention_norm(x_TD), into, x_TD)
        return self.feed_forward(self.feed_forward_norm(x_TD), x_TD)


class CausalLM(Layer):
    """Embedding, blocks, norm and head."""

    def __init__(
        self, config: ModelConfig, numerics: Numerics, feed_forward: Callable[[ModelConfig, Numerics], FeedForward]
    ) -> None:
        self.config = config
        self.numerics = numerics
        self.embedding = Linear(numerics, config.vocab_size, config.hidden_size)
        self.blocks = [
            Block(config, numerics, layer, feed_forward(config, numerics)) for layer in range(config.num_layers)
        ]
        self.norm = RMSNorm(numerics, config.hidden_size, config.rms_norm_eps)
        # A tied head is the embedding itself, not a second weight.
        self.head = None if config.tie_word_embeddings else Linear(numerics, config.vocab_size, config.hidden_size)
        self._frequencies_C = inverse_frequencies(config.head_dim, config.rope_theta).to(numerics.kernels.device)

    def __call__(self, step: StepInput) -> Tensor:
        """Runs one step; the wanted rows' logits, (S, V) in float32."""
        cos_TC, sin_TC = rotary_tables(step.positions_T, self._frequencies_C)
        into = AttentionInput(step.attention, cos_TC, sin_TC, step.caches)
        x_TD = self.embedding.rows(step.tokens_T)
        for block in self.blocks:
            x_TD = block(x_TD, into)
        wanted_SD = x_TD if step.sampled_S is None else torch.index_select(x_TD, 0, step.sampled_S)
        return (self.head or self.embedding).logits(self.norm(wanted_SD))
