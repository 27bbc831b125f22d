"""Llama and the dense families that share its shape (Mistral without a sliding window)."""

from __future__ import annotations

from collections.abc import Iterator

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.blocks import CausalLM, DenseFeedForward
from openmodel_runtime.models.family import ModelFamily, WeightPart


def attention_and_norm_weights(config: ModelConfig) -> Iterator[WeightPart]:
    """All tensors but the feed-forward blocks', by Llama's names, which most families keep."""
    q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    yield WeightPart("model.embed_tokens.weight", "embedding.weight")
    yield WeightPart("model.norm.weight", "norm.weight")
    if not config.tie_word_embeddings:
        yield WeightPart("lm_head.weight", "head.weight")
    for layer in range(config.num_layers):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        yield WeightPart(f"{theirs}.input_layernorm.weight", f"{ours}.attention_norm.weight")
        yield WeightPart(f"{theirs}.post_attention_layernorm.weight", f"{ours}.feed_forward_norm.weight")
        qkv = f"{ours}.attention.qkv.weight"
        yield WeightPart(f"{theirs}.self_attn.q_proj.weight", qkv, (slice(0, q_dim),))
        yield WeightPart(f"{theirs}.self_attn.k_proj.weight", qkv, (slice(q_dim, q_dim + kv_dim),))
        yield WeightPart(f"{theirs}.self_attn.v_proj.weight", qkv, (slice(q_dim + kv_dim, None),))
        yield WeightPart(f"{theirs}.self_attn.o_proj.weight", f"{ours}.attention.out.weight")


def _weights(config: ModelConfig) -> Iterator[WeightPart]:
    yield from attention_and_norm_weights(config)
    width = config.intermediate_size
    for layer in range(config.num_layers):
        theirs, ours = f"model.layers.{layer}.mlp", f"blocks.{layer}.feed_forward"
        yield WeightPart(f"{theirs}.gate_proj.weight", f"{ours}.gate_up.weight", (slice(0, width),))
        yield WeightPart(f"{theirs}.up_proj.weight", f"{ours}.gate_up.weight", (slice(width, None),))
        yield WeightPart(f"{theirs}.down_proj.weight", f"{ours}.down.weight")


LLAMA = ModelFamily(build=lambda config, numerics: CausalLM(config, numerics, DenseFeedForward), weights=_weights)
