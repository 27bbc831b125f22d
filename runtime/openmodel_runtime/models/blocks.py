"""Blocks that decoder-only models share: attention, dense and routed feed-forward, and a layer of both.

T tokens of a step (all sequences one after another), D hidden dimension, H query heads, C head dimension.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from openmodel_kernels.interface import AttentionRule, Gate, Routing, RoutingRule, Scoring
from openmodel_runtime.checkpoint.model_config import ExpertsConfig, FeedForwardConfig, ModelConfig
from openmodel_runtime.models.block_input import BlockInput
from openmodel_runtime.models.latent_attention import LatentAttention
from openmodel_runtime.models.layers import Experts, Layer, Linear, Numerics, RMSNorm, Vector


class Attention(Layer):
    """Grouped-query attention with rotary positions over the paged cache."""

    def __init__(self, config: ModelConfig, numerics: Numerics, layer: int) -> None:
        attention = config.attention
        self._kernels = numerics.kernels
        self._config = attention
        self._layer = layer
        self._eps = config.rms_norm_eps
        q_dim, kv_dim = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
        self.qkv = Linear(numerics, q_dim + 2 * kv_dim, config.hidden_size, bias=attention.qkv_bias)
        self.out = Linear(numerics, config.hidden_size, q_dim, bias=attention.out_bias)
        head = (attention.head_dim,)
        self.q_norm = Vector(numerics, head) if attention.norm_heads else None
        self.k_norm = Vector(numerics, head) if attention.norm_heads else None
        self.sinks = Vector(numerics, (attention.heads,), torch.float32) if attention.sinks else None

    @cached_property
    def _rule(self) -> AttentionRule:
        """Known once the sinks are loaded."""
        sinks_H = None if self.sinks is None else self.sinks.tensor
        return AttentionRule(self._config.scale, self._config.windows[self._layer], self._config.softcap, sinks_H)

    def __call__(self, x_TD: Tensor, into: BlockInput, residual_TD: Tensor | None) -> Tensor:
        """Projects, writes the new keys and values to the cache, attends, projects back, adds the residual."""
        heads, cache = self._config.heads, into.caches[self._layer]
        qkv_TX = self.qkv(x_TD)
        if self.q_norm is not None and self.k_norm is not None:
            self._kernels.norm_heads(qkv_TX, heads, self.q_norm.tensor, self.k_norm.tensor, self._eps)
        if into.query_scale_T is not None:
            qkv_TX[:, : heads * self._config.head_dim].mul_(into.query_scale_T[:, None])
        self._kernels.write_cache(into.step, qkv_TX, heads, into.cos_TC, into.sin_TC, cache)
        out_TX = self._kernels.attention(into.step, qkv_TX, heads, cache, self._rule)
        return into.add(self.out, out_TX, residual_TD)


class DenseFeedForward(Layer):
    """The gated feed-forward block of a dense layer: down(activation(gate(x)) * up(x))."""

    def __init__(self, hidden: int, config: FeedForwardConfig, numerics: Numerics) -> None:
        width, gate = config.intermediate_size, Gate(config.gate)
        self.gate_up = Linear(numerics, 2 * width, hidden, gate=gate, bias=config.bias)
        self.down = Linear(numerics, hidden, width, bias=config.bias)

    def __call__(self, x_TD: Tensor, into: BlockInput, residual_TD: Tensor | None) -> Tensor:
        """The block's output on top of the residual."""
        return into.add(self.down, self.gate_up(x_TD), residual_TD)


class RoutedFeedForward(Layer):
    """A mixture of gated experts, each token routed to its best K; with a shared one, which every token goes to."""

    def __init__(self, hidden: int, config: ExpertsConfig, numerics: Numerics, layer: int, held: int) -> None:
        self._kernels = numerics.kernels
        self._config = config
        self._layer = layer
        # Few numbers that decide a lot: never in fewer bits than they came.
        self.router = Linear(numerics, config.count, hidden, bias=config.router_bias, exact=True)
        self.selection_bias = Vector(numerics, (config.count,), torch.float32) if config.selection_bias else None
        self.shared = None if config.shared is None else DenseFeedForward(hidden, config.shared, numerics)
        self.experts = Experts(numerics, held, hidden, config.expert)

    @cached_property
    def _rule(self) -> RoutingRule:
        """Known once the bias is loaded."""
        config = self._config
        return RoutingRule(
            config.per_token,
            Scoring(config.scoring),
            config.renormalize,
            config.scale,
            config.groups,
            config.top_groups,
            config.group_best,
            None if self.selection_bias is None else self.selection_bias.tensor,
        )

    def __call__(self, x_TD: Tensor, into: BlockInput, residual_TD: Tensor | None) -> Tensor:
        """The routed experts' weighted sum on top of the shared one and the residual."""
        if self.shared is not None:
            residual_TD = self.shared(x_TD, into, residual_TD)
        if into.exchange is None:
            return self.experts(x_TD, self._route(x_TD), residual_TD)
        found = into.exchange.run(self._layer, x_TD, self._route, self.experts.rows)
        return self._kernels.combine(found.rows_RD, found.places_TK, found.weights_TK, residual_TD)

    def _route(self, x_TD: Tensor) -> Routing:
        return self._kernels.route(self.router.logits(x_TD), self._rule)


class Block(Layer):
    """Pre-norm attention and feed-forward with residuals."""

    def __init__(self, config: ModelConfig, numerics: Numerics, layer: int, held: int) -> None:
        """`held` experts are on this rank, if the layer has any."""

        def norm() -> RMSNorm:
            return RMSNorm(numerics, config.hidden_size, config.rms_norm_eps)

        self.attention_norm = norm()
        latent = config.attention.latent
        self.attention: Attention | LatentAttention
        if latent is None:
            self.attention = Attention(config, numerics, layer)
        else:
            self.attention = LatentAttention(config, latent, numerics, layer)
        self.feed_forward_norm = norm()
        self.feed_forward: DenseFeedForward | RoutedFeedForward
        if config.experts is not None and layer in config.experts.layers:
            self.feed_forward = RoutedFeedForward(config.hidden_size, config.experts, numerics, layer, held)
        else:
            self.feed_forward = DenseFeedForward(config.hidden_size, config.feed_forward, numerics)
        self.attention_after = norm() if config.norms_after else None
        self.feed_forward_after = norm() if config.norms_after else None

    def __call__(self, x_TD: Tensor, into: BlockInput) -> Tensor:
        """One block of the stack."""
        if not x_TD.shape[0]:
            # Nothing of this rank's own is in the step, but its experts may be wanted.
            if isinstance(self.feed_forward, RoutedFeedForward):
                self.feed_forward(x_TD, into, None)
            return x_TD
        normed_TD = self.attention_norm(x_TD)
        if self.attention_after is None or self.feed_forward_after is None:
            x_TD = self.attention(normed_TD, into, x_TD)
            return self._feed_forward(x_TD, into, x_TD)
        x_TD = x_TD + self.attention_after(self.attention(normed_TD, into, None))
        return x_TD + self.feed_forward_after(self._feed_forward(x_TD, into, None))

    def _feed_forward(self, x_TD: Tensor, into: BlockInput, residual_TD: Tensor | None) -> Tensor:
        normed_TD = self.feed_forward_norm(x_TD)
        return self.feed_forward(normed_TD, into, residual_TD)
