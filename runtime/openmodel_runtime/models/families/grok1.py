"""Grok-1, after xAI's published JAX code: what attention and experts give is normalized before it is added, scores and
logits are scaled and capped, gates are GELUs, and the weights of a token's two experts are not renormalized.

Other engines renormalize, or cap the router's logits too; the published code does neither. Names are those of the
checkpoint in Hugging Face's form (hpcai-tech/grok-1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.checkpoint_names import BlockNames, attention_weights, expert_weights, stem_weights
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.standard_config import experts_config, standard_config

_NAMES = BlockNames(
    attention="attn", attention_norm="pre_attn_norm", feed_forward_norm="pre_moe_norm", norm_weight="scale"
)


def _configure(fields: ConfigFields) -> ModelConfig:
    config = standard_config(fields, activations=("gelu",))
    attention = replace(
        config.attention,
        # A scale of scores, whatever its name.
        scale=fields.number("attn_output_multiplier", 0.08838834764831845),
        softcap=fields.number("max_attn_value", 30.0),
    )
    experts = experts_config(fields, ("num_experts",), "intermediate_size", frozenset(range(config.num_layers)))
    expert = replace(experts.expert, gate="gelu_tanh")
    return replace(
        config,
        rms_norm_eps=fields.number("rms_norm_eps", 1e-5),
        tie_word_embeddings=fields.flag("tie_word_embeddings", True),
        attention=attention,
        experts=replace(experts, expert=expert, renormalize=False),
        norms_after=True,
        embedding_scale=fields.number("embedding_multiplier_scale", 78.38367176906169),
        logits_scale=fields.number("output_multiplier_scale", 0.5773502691896257),
    )


def _weights(config: ModelConfig) -> Iterator[WeightPart]:
    yield from stem_weights(config, "scale")
    yield from attention_weights(config, _NAMES)
    for layer in range(config.num_layers):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        yield WeightPart(f"{theirs}.post_attn_norm.scale", f"{ours}.attention_after.weight")
        yield WeightPart(f"{theirs}.post_moe_norm.scale", f"{ours}.feed_forward_after.weight")
    yield from expert_weights(config, "moe_block", gate="linear", up="linear_v", down="linear_1")


GROK_1 = ModelFamily(configure=_configure, weights=_weights)
