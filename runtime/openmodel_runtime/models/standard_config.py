"""The fields of `config.json` that families share, by the Hub's names, old and new.

A family starts from `standard_config` and replaces what is its own. What would be computed wrongly is refused by name.
"""

from __future__ import annotations

import math

from openmodel_runtime.checkpoint.config_fields import ConfigFields, architecture_of
from openmodel_runtime.checkpoint.model_config import (
    AttentionConfig,
    ExpertsConfig,
    FeedForwardConfig,
    ModelConfig,
    RotaryConfig,
    RotaryScaling,
)
from openmodel_runtime.errors import CheckpointError, UnsupportedModel

_SLIDING, _FULL = "sliding_attention", "full_attention"


def standard_config(
    fields: ConfigFields, *, activations: tuple[str, ...] = ("silu",), quantization: tuple[str, ...] = ()
) -> ModelConfig:
    """Llama's shape: what its descendants have in common.

    Args:
        fields: of `config.json`.
        activations: values that `hidden_act` may have, the first where it is not there.
        quantization: methods that the family's weights may be stored with.
    """
    stored = _quantization(fields, quantization)
    fields.must_be("hidden_act", *activations)
    hidden, layers = fields.size("hidden_size"), fields.size("num_hidden_layers")
    heads = fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", heads)
    head_dim = fields.size("head_dim", max(hidden // heads, 1))
    if heads % kv_heads:
        raise CheckpointError(f"config.json: {heads} num_attention_heads do not share {kv_heads} num_key_value_heads")
    biased = fields.flag("attention_bias")
    return ModelConfig(
        architecture=architecture_of(fields),
        hidden_size=hidden,
        num_layers=layers,
        vocab_size=fields.size("vocab_size"),
        max_position_embeddings=fields.size("max_position_embeddings"),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        tie_word_embeddings=fields.flag("tie_word_embeddings"),
        torch_dtype=fields.text("dtype", fields.text("torch_dtype", "float32")),
        attention=AttentionConfig(
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5,
            windows=sliding_windows(fields, layers),
            qkv_bias=biased,
            out_bias=biased,
        ),
        rotary=rotary_config(fields, head_dim),
        quantization=stored,
        feed_forward=FeedForwardConfig(
            intermediate_size=fields.size("intermediate_size"), bias=fields.flag("mlp_bias")
        ),
    )


def sliding_windows(fields: ConfigFields, layers: int) -> tuple[int | None, ...]:
    """The window of each layer: by `layer_types`, else all layers have `sliding_window`, if there is one."""
    window = fields.optional_size("sliding_window")
    if not fields.has("layer_types"):
        return (window,) * layers
    types = fields.items("layer_types")
    if len(types) != layers:
        raise CheckpointError(f"config.json: layer_types has {len(types)} entries for {layers} layers")
    if odd := {str(kind) for kind in types} - {_SLIDING, _FULL}:
        raise UnsupportedModel(f"config.json: layer_types {sorted(odd)[0]!r} is not supported")
    if window is None and _SLIDING in types:
        raise CheckpointError("config.json: layer_types has sliding_attention, and there is no sliding_window")
    return tuple(window if kind == _SLIDING else None for kind in types)


def rope_fields(fields: ConfigFields) -> ConfigFields:
    """Where rotary scaling stands: `rope_parameters`, or `rope_scaling` of older checkpoints."""
    return fields.object("rope_parameters" if fields.has("rope_parameters") else "rope_scaling")


def rotary_config(fields: ConfigFields, dim: int) -> RotaryConfig:
    """`rope_parameters`, or `rope_theta` and `rope_scaling` of older checkpoints."""
    rope = rope_fields(fields)
    theta = rope.number("rope_theta", fields.number("rope_theta", 10000.0))
    name = rope.text("rope_type", rope.text("type", "default"))
    if name not in list(RotaryScaling):
        raise UnsupportedModel(f"config.json: rotary scaling {name!r} is not supported")
    if rope.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0)) != 1.0:
        raise UnsupportedModel("config.json: partial_rotary_factor is not supported")
    scaling = RotaryScaling(name)
    if scaling is RotaryScaling.NONE:
        rope.refuse("llama_4_scaling_beta")
        return RotaryConfig(theta=theta, dim=dim)
    longest = fields.size("max_position_embeddings")
    original = rope.size("original_max_position_embeddings", longest)
    factor = rope.number("factor", longest / original)
    if scaling is RotaryScaling.LLAMA3:
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        if not low < high:
            raise CheckpointError(f"config.json: low_freq_factor {low} must be less than high_freq_factor {high}")
    return RotaryConfig(
        theta=theta,
        dim=dim,
        scaling=scaling,
        factor=factor,
        original_positions=original,
        low_freq_factor=rope.number("low_freq_factor", 1.0),
        high_freq_factor=rope.number("high_freq_factor", 4.0),
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        truncate=rope.flag("truncate", True),
        attention_factor=_attention_factor(rope, factor) if scaling is RotaryScaling.YARN else 1.0,
        query_beta=rope.number("llama_4_scaling_beta", 0.0),
    )


def _attention_factor(rope: ConfigFields, factor: float) -> float:
    """YaRN's: what a stretched model's scores are raised by, as a factor of queries and of keys."""
    if rope.has("attention_factor"):
        return rope.number("attention_factor")
    mscale, of_all = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    if mscale and of_all:
        return yarn_mscale(factor, mscale) / yarn_mscale(factor, of_all)
    return yarn_mscale(factor)


def yarn_mscale(factor: float, mscale: float = 1.0) -> float:
    """0.1 * mscale * ln(factor) + 1 (Peng et al., 2023, equation 22)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1.0 else 1.0


def experts_config(
    fields: ConfigFields, counts: tuple[str, ...], intermediate_size: str, layers: frozenset[int]
) -> ExpertsConfig:
    """Experts, from the first of the fields that holds their count, and the one that holds their width."""
    count = next((name for name in counts if fields.has(name)), counts[-1])
    experts, per_token = fields.size(count), fields.size("num_experts_per_tok")
    if per_token > experts:
        raise CheckpointError(f"config.json: num_experts_per_tok {per_token} is more than {count} {experts}")
    expert = FeedForwardConfig(intermediate_size=fields.size(intermediate_size))
    return ExpertsConfig(count=experts, per_token=per_token, expert=expert, layers=layers)


def _quantization(fields: ConfigFields, allowed: tuple[str, ...]) -> str | None:
    if not fields.has("quantization_config"):
        return None
    stored = fields.object("quantization_config")
    method = stored.text("quant_method", "of no name")
    if method not in allowed:
        served = f"; this architecture is served with {', '.join(allowed)}" if allowed else ""
        raise UnsupportedModel(f"config.json: quantization_config: quant_method {method!r} is not supported{served}")
    if method == "fp8" and stored.items("weight_block_size") != [128, 128]:
        raise UnsupportedModel("config.json: quantization_config: weight_block_size must be [128, 128] with fp8")
    return method
