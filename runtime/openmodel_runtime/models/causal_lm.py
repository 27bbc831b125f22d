"""A decoder-only model: embedding, blocks, norm, head.

T tokens of a step (all sequences one after another), S rows whose next token is wanted, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openmodel_kernels.interface import LayerCache
from openmodel_kernels.rotary import rotary_tables
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.block_input import BlockInput, ExpertExchange, SharedMatrices
from openmodel_runtime.models.blocks import Block, RoutedFeedForward
from openmodel_runtime.models.layers import Experts, Layer, Linear, Numerics, RMSNorm
from openmodel_runtime.models.rotary import frequencies, query_scale


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
    exchange: ExpertExchange | None = None
    """The ranks that share the experts; None where all experts are here."""
    shared: SharedMatrices | None = None
    """The ranks that share each matrix; None where all of them are whole."""


class CausalLM(Layer):
    """The whole model of any family."""

    def __init__(self, config: ModelConfig, numerics: Numerics, held: Mapping[int, int] | None = None) -> None:
        """`held`: how many experts of each routed layer are on this rank; None is all of them."""
        self.config = config
        self.numerics = numerics
        self.embedding = Linear(numerics, config.vocab_size, config.hidden_size)
        count = 0 if config.experts is None else config.experts.count
        self.blocks = [
            Block(config, numerics, layer, count if held is None else held.get(layer, 0))
            for layer in range(config.num_layers)
        ]
        self.norm = RMSNorm(numerics, config.hidden_size, config.rms_norm_eps)
        # A tied head is the embedding itself, not a second weight.
        self.head = None if config.tie_word_embeddings else Linear(numerics, config.vocab_size, config.hidden_size)
        self._frequencies_C = frequencies(config.rotary).to(numerics.kernels.device)

    def expert_layers(self) -> dict[int, Experts]:
        """The experts of each routed layer that are here."""
        return {
            layer: block.feed_forward.experts
            for layer, block in enumerate(self.blocks)
            if isinstance(block.feed_forward, RoutedFeedForward)
        }

    def __call__(self, step: StepInput) -> Tensor:
        """Runs one step; the wanted rows' logits, (S, V) in float32."""
        cos_TC, sin_TC = rotary_tables(step.positions_T, self._frequencies_C)
        if self.config.rotary.attention_factor != 1.0:
            cos_TC, sin_TC = (table * self.config.rotary.attention_factor for table in (cos_TC, sin_TC))
        scale_T = query_scale(self.config.rotary, step.positions_T)
        into = BlockInput(step.attention, cos_TC, sin_TC, step.caches, scale_T, step.exchange, step.shared)
        x_TD = self.embedding.rows(step.tokens_T)
        if self.config.embedding_scale != 1.0:
            x_TD = x_TD * self.config.embedding_scale
        for block in self.blocks:
            x_TD = block(x_TD, into)
        wanted_SD = x_TD if step.sampled_S is None else torch.index_select(x_TD, 0, step.sampled_S)
        logits_SV = (self.head or self.embedding).logits(self.norm(wanted_SD))
        return logits_SV if self.config.logits_scale == 1.0 else logits_SV * self.config.logits_scale
