"""Where checkpoint tensors go, for the layouts that families share. Names are Llama's unless said otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from openmodel_runtime.checkpoint.model_config import FeedForwardConfig, ModelConfig
from openmodel_runtime.models.family import WeightPart


@dataclass(frozen=True, slots=True)
class BlockNames:
    """What a family calls the parts of a block that most call as Llama does."""

    attention: str = "self_attn"
    attention_norm: str = "input_layernorm"
    feed_forward_norm: str = "post_attention_layernorm"
    norm_weight: str = "weight"


LLAMA_NAMES = BlockNames()


def stem_weights(config: ModelConfig, norm_weight: str = "weight") -> Iterator[WeightPart]:
    """Embedding, last norm, head."""
    yield WeightPart("model.embed_tokens.weight", "embedding.weight")
    yield WeightPart(f"model.norm.{norm_weight}", "norm.weight")
    if not config.tie_word_embeddings:
        yield WeightPart("lm_head.weight", "head.weight")


def norm_weights(config: ModelConfig, names: BlockNames = LLAMA_NAMES) -> Iterator[WeightPart]:
    """The norms before attention and feed-forward of all blocks."""
    for layer in range(config.num_layers):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        yield WeightPart(f"{theirs}.{names.attention_norm}.{names.norm_weight}", f"{ours}.attention_norm.weight")
        yield WeightPart(f"{theirs}.{names.feed_forward_norm}.{names.norm_weight}", f"{ours}.feed_forward_norm.weight")


def attention_weights(config: ModelConfig, names: BlockNames = LLAMA_NAMES) -> Iterator[WeightPart]:
    """Norms and attention of all blocks."""
    yield from norm_weights(config, names)
    attention = config.attention
    q_dim, kv_dim = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    parts = {"q": slice(0, q_dim), "k": slice(q_dim, q_dim + kv_dim), "v": slice(q_dim + kv_dim, None)}
    for layer in range(config.num_layers):
        theirs, ours = f"model.layers.{layer}.{names.attention}", f"blocks.{layer}.attention"
        for name, rows in parts.items():
            yield WeightPart(f"{theirs}.{name}_proj.weight", f"{ours}.qkv.weight", (rows,))
            if attention.qkv_bias:
                yield WeightPart(f"{theirs}.{name}_proj.bias", f"{ours}.qkv.bias", (rows,))
        yield WeightPart(f"{theirs}.o_proj.weight", f"{ours}.out.weight")
        if attention.out_bias:
            yield WeightPart(f"{theirs}.o_proj.bias", f"{ours}.out.bias")
        if attention.norm_heads:
            yield WeightPart(f"{theirs}.q_norm.weight", f"{ours}.q_norm")
            yield WeightPart(f"{theirs}.k_norm.weight", f"{ours}.k_norm")
        if attention.sinks:
            yield WeightPart(f"{theirs}.sinks", f"{ours}.sinks")


def dense_weights(config: ModelConfig) -> Iterator[WeightPart]:
    """The feed-forward blocks of the layers without experts."""
    for layer in sorted(set(range(config.num_layers)) - config.routed_layers):
        yield from gated_weights(f"model.layers.{layer}.mlp", f"blocks.{layer}.feed_forward", config.feed_forward)


def gated_weights(theirs: str, ours: str, config: FeedForwardConfig) -> Iterator[WeightPart]:
    """One gated feed-forward block."""
    width = config.intermediate_size
    halves = {"gate": slice(0, width), "up": slice(width, None)}
    for kind in ("weight", "bias") if config.bias else ("weight",):
        for name, rows in halves.items():
            yield WeightPart(f"{theirs}.{name}_proj.{kind}", f"{ours}.gate_up.{kind}", (rows,))
        yield WeightPart(f"{theirs}.down_proj.{kind}", f"{ours}.down.{kind}")


def expert_weights(
    config: ModelConfig, block: str, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj"
) -> Iterator[WeightPart]:
    """Routers, and experts that are stored one by one.

    Args:
        config: the model.
        block: what the feed-forward block is called.
        gate: what an expert's gate is called.
        up: its up projection.
        down: its down projection.
    """
    assert config.experts is not None
    width = config.experts.expert.intermediate_size
    for layer in sorted(config.experts.layers):
        theirs, ours = f"model.layers.{layer}.{block}", f"blocks.{layer}.feed_forward"
        yield WeightPart(f"{theirs}.gate.weight", f"{ours}.router.weight")
        for expert in range(config.experts.count):
            name = f"{theirs}.experts.{expert}"
            yield WeightPart(f"{name}.{gate}.weight", f"{ours}.experts.gate_up.weight", (expert, slice(0, width)))
            yield WeightPart(f"{name}.{up}.weight", f"{ours}.experts.gate_up.weight", (expert, slice(width, None)))
            yield WeightPart(f"{name}.{down}.weight", f"{ours}.experts.down.weight", (expert,))
