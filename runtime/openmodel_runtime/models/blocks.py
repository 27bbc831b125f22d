"""Blocks that decoder-only models share: attention, dense and routed feed-forward, and the stack itself.

T tokens of a step (all sequences one after another), D hidden dimension, H query heads, G key/value heads,
C head dimension, F feed-forward dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, silu

from openmodel_kernels.attention import causal_attention
from openmodel_kernels.moe import route_softmax_top_k, routed_swiglu
from openmodel_kernels.norm import rms_norm
from openmodel_kernels.rotary import apply_rotary, inverse_frequencies, rotary_tables
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.kv_cache import SequenceCache


@dataclass(frozen=True, slots=True)
class SequenceSlice:
    """The tokens of one sequence within a step, and its cache."""

    start: int
    """First row of the step that is this sequence's."""
    stop: int
    """One past its last row."""
    cached: int
    """Tokens already in the cache."""
    cache: SequenceCache


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """What attention needs to know of a step."""

    slices: Sequence[SequenceSlice]
    cos_T1C: Tensor
    sin_T1C: Tensor


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape), requires_grad=False)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.q_dim = config.num_heads * config.head_dim
        self.kv_dim = config.num_kv_heads * config.head_dim
        self.head_dim = config.head_dim
        self.qkv = _parameter(self.q_dim + 2 * self.kv_dim, config.hidden_size)
        self.out = _parameter(config.hidden_size, self.q_dim)

    def forward(self, x_TD: Tensor, metadata: AttentionMetadata) -> Tensor:
        """Projects, writes the new keys and values to each sequence's cache, attends, projects back."""
        q, k, v = torch.split(linear(x_TD, self.qkv), [self.q_dim, self.kv_dim, self.kv_dim], dim=-1)
        q_THC = apply_rotary(q.reshape(len(x_TD), -1, self.head_dim), metadata.cos_T1C, metadata.sin_T1C)
        k_TGC = apply_rotary(k.reshape(len(x_TD), -1, self.head_dim), metadata.cos_T1C, metadata.sin_T1C)
        v_TGC = v.reshape(len(x_TD), -1, self.head_dim)
        out_THC = torch.empty_like(q_THC)
        for part in metadata.slices:
            rows = slice(part.start, part.stop)
            keys_GSC, values_GSC = part.cache.append(self.layer, part.cached, k_TGC[rows], v_TGC[rows])
            out_THC[rows] = causal_attention(q_THC[rows], keys_GSC, values_GSC, self.head_dim**-0.5)
        return linear(out_THC.flatten(1), self.out)


class DenseSwiGLU(nn.Module):
    """The feed-forward block of a dense model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = _parameter(2 * config.intermediate_size, config.hidden_size)
        self.down = _parameter(config.hidden_size, config.intermediate_size)

    def forward(self, x_TD: Tensor) -> Tensor:
        """down(silu(gate(x)) * up(x))."""
        gate_TF, up_TF = linear(x_TD, self.gate_up).chunk(2, dim=-1)
        return linear(silu(gate_TF) * up_TF, self.down)


class RoutedSwiGLU(nn.Module):
    """A mixture of SwiGLU experts, each token routed to its best K."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.router = _parameter(config.num_experts, config.hidden_size)
        self.gate_up = _parameter(config.num_experts, 2 * config.intermediate_size, config.hidden_size)
        self.down = _parameter(config.num_experts, config.hidden_size, config.intermediate_size)

    def forward(self, x_TD: Tensor) -> Tensor:
        """The routed experts' weighted sum."""
        routing = route_softmax_top_k(linear(x_TD, self.router), self.top_k)
        return routed_swiglu(x_TD, routing, self.gate_up, self.down)


class Block(nn.Module):
    """Pre-norm attention and feed-forward with residuals."""

    def __init__(self, config: ModelConfig, layer: int, feed_forward: nn.Module) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.attention_norm = _parameter(config.hidden_size)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = _parameter(config.hidden_size)
        self.feed_forward = feed_forward

    def forward(self, x_TD: Tensor, metadata: AttentionMetadata) -> Tensor:
        """One block of the stack."""
        x_TD = x_TD + self.attention(rms_norm(x_TD, self.attention_norm, self.eps), metadata)
        out_TD: Tensor = self.feed_forward(rms_norm(x_TD, self.feed_forward_norm, self.eps))
        return x_TD + out_TD


class CausalLM(nn.Module):
    """Embedding, blocks, norm and head."""

    def __init__(self, config: ModelConfig, feed_forward: Callable[[ModelConfig], nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.embedding = _parameter(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer, feed_forward(config)) for layer in range(config.num_layers))
        self.norm = _parameter(config.hidden_size)
        # A tied head is the embedding itself, not a second parameter.
        self.head = None if config.tie_word_embeddings else _parameter(config.vocab_size, config.hidden_size)

    def forward(
        self,
        tokens_T: Tensor,
        positions_T: Tensor,
        slices: Sequence[SequenceSlice],
        sampled_S: Tensor,
    ) -> Tensor:
        """Runs one step.

        Args:
            tokens_T: token ids.
            positions_T: position of each token in its sequence.
            slices: the sequences that the rows belong to.
            sampled_S: rows whose next token is wanted.

        Returns:
            Logits in float32, (S, V).
        """
        frequencies = inverse_frequencies(self.config.head_dim, self.config.rope_theta)
        cos, sin = rotary_tables(positions_T, frequencies.to(positions_T.device), self.embedding.dtype)
        metadata = AttentionMetadata(slices, cos, sin)
        x_TD = embedding(tokens_T, self.embedding)
        for block in self.blocks:
            x_TD = block(x_TD, metadata)
        x_SD = rms_norm(x_TD[sampled_S], self.norm, self.config.rms_norm_eps)
        return linear(x_SD, self.embedding if self.head is None else self.head).float()
