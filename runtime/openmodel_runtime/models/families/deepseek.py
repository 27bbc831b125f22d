"""DeepSeek-V2 and V3: latent attention, many small experts in groups beside a shared one, dense first blocks.

V3's checkpoints are stored in FP8 and carry a block that predicts a second token, which is not served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import (
    AttentionConfig,
    ExpertsConfig,
    FeedForwardConfig,
    LatentConfig,
    ModelConfig,
    RotaryScaling,
)
from openmodel_runtime.models.checkpoint_names import (
    dense_weights,
    expert_weights,
    gated_weights,
    norm_weights,
    stem_weights,
)
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.latent_attention import pairs_to_halves, split_key_value
from openmodel_runtime.models.standard_config import experts_config, rope_fields, standard_config, yarn_mscale

_GROUP_LIMITED, _WITH_BIAS = "group_limited_greedy", "noaux_tc"


def _configure(fields: ConfigFields, *, third: bool) -> ModelConfig:
    config = standard_config(fields, quantization=("fp8",))
    attention = _attention(fields, config)
    first = int(fields.number("first_k_dense_replace", 0))
    routed = frozenset(range(first, config.num_layers))
    experts = experts_config(fields, ("n_routed_experts", "num_local_experts"), "moe_intermediate_size", routed)
    rope = rope_fields(fields)
    rope.refuse("llama_4_scaling_beta")
    if config.rotary.scaling is RotaryScaling.YARN and rope.number("mscale_all_dim", 0.0):
        raised = yarn_mscale(config.rotary.factor, rope.number("mscale_all_dim"))
        attention = replace(attention, scale=attention.scale * raised * raised)
    assert attention.latent is not None
    return replace(
        config,
        attention=attention,
        rotary=replace(config.rotary, dim=attention.latent.rotary_dim),
        experts=_experts(fields, experts, third=third),
        ignored=tuple(
            f"model.layers.{config.num_layers + extra}."
            for extra in range(int(fields.number("num_nextn_predict_layers", 0)))
        ),
    )


def _attention(fields: ConfigFields, config: ModelConfig) -> AttentionConfig:
    fields.refuse("sliding_window")
    latent = LatentConfig(
        kv_rank=fields.size("kv_lora_rank"),
        rotary_dim=fields.size("qk_rope_head_dim"),
        head_dim=fields.size("qk_nope_head_dim"),
        value_dim=fields.size("v_head_dim"),
        query_rank=fields.optional_size("q_lora_rank"),
    )
    scale = (latent.head_dim + latent.rotary_dim) ** -0.5
    return replace(config.attention, kv_heads=1, head_dim=latent.cached_dim, scale=scale, latent=latent)


def _experts(fields: ConfigFields, experts: ExpertsConfig, *, third: bool) -> ExpertsConfig:
    shared = fields.size("n_shared_experts", 1) * experts.expert.intermediate_size
    experts = replace(
        experts,
        scale=fields.number("routed_scaling_factor", 1.0),
        shared=FeedForwardConfig(intermediate_size=shared),
        # The second never renormalizes, whatever its file says: transformers and the published code do the same.
        renormalize=fields.flag("norm_topk_prob", third) and third,
    )
    grouped = replace(experts, groups=fields.size("n_group", 1), top_groups=fields.size("topk_group", 1))
    if third:
        fields.must_be("topk_method", _WITH_BIAS)
        return replace(grouped, group_best=2, scoring="sigmoid", selection_bias=True)
    method = fields.must_be("topk_method", "greedy", _GROUP_LIMITED)
    return grouped if method == _GROUP_LIMITED else experts


def _weights(config: ModelConfig) -> Iterator[WeightPart]:
    assert config.experts is not None
    assert config.experts.shared is not None
    yield from stem_weights(config)
    yield from norm_weights(config)
    for layer in range(config.num_layers):
        yield from _attention_weights(config, f"model.layers.{layer}.self_attn", f"blocks.{layer}.attention")
    yield from dense_weights(config)
    yield from expert_weights(config, "mlp")
    for layer in sorted(config.experts.layers):
        theirs, ours = f"model.layers.{layer}.mlp", f"blocks.{layer}.feed_forward"
        if config.experts.selection_bias:
            yield WeightPart(f"{theirs}.gate.e_score_correction_bias", f"{ours}.selection_bias")
        yield from gated_weights(f"{theirs}.shared_experts", f"{ours}.shared", config.experts.shared)


def _attention_weights(config: ModelConfig, theirs: str, ours: str) -> Iterator[WeightPart]:
    latent, heads = config.attention.latent, config.attention.heads
    assert latent is not None
    query = f"{theirs}.q_proj.weight"
    if latent.query_rank is not None:
        query = f"{theirs}.q_b_proj.weight"
        yield WeightPart(f"{theirs}.q_a_proj.weight", f"{ours}.query_down.weight")
        yield WeightPart(f"{theirs}.q_a_layernorm.weight", f"{ours}.query_norm.weight")
    yield WeightPart(query, f"{ours}.query.weight", make=partial(_queries, heads=heads, rotary=latent.rotary_dim))
    key = partial(_rotated_first, rotary=latent.rotary_dim)
    yield WeightPart(f"{theirs}.kv_a_proj_with_mqa.weight", f"{ours}.key.weight", make=key)
    yield WeightPart(f"{theirs}.kv_a_layernorm.weight", f"{ours}.key_norm.weight")
    for index, name in enumerate(("to_latent", "from_latent")):
        half = partial(_half, heads=heads, head_dim=latent.head_dim, index=index)
        yield WeightPart(f"{theirs}.kv_b_proj.weight", f"{ours}.{name}.weight", make=half)
    yield WeightPart(f"{theirs}.o_proj.weight", f"{ours}.out.weight")
    if config.attention.qkv_bias:
        yield WeightPart(f"{theirs}.kv_a_proj_with_mqa.bias", f"{ours}.key.bias", make=key)
        yield WeightPart(f"{theirs}.o_proj.bias", f"{ours}.out.bias")
        if latent.query_rank is not None:
            yield WeightPart(f"{theirs}.q_a_proj.bias", f"{ours}.query_down.bias")


def _rotated_first(rows: Tensor, *, rotary: int) -> Tensor:
    """Rows whose last ones are rotated, those first."""
    return torch.cat((pairs_to_halves(rows[-rotary:]), rows[:-rotary]))


def _queries(weight_XD: Tensor, *, heads: int, rotary: int) -> Tensor:
    return torch.cat([_rotated_first(head_QD, rotary=rotary) for head_QD in weight_XD.chunk(heads)])


def _half(kv_b_XL: Tensor, *, heads: int, head_dim: int, index: int) -> Tensor:
    return split_key_value(kv_b_XL, heads, head_dim)[index]


DEEPSEEK_V2 = ModelFamily(configure=partial(_configure, third=False), weights=_weights)
DEEPSEEK_V3 = ModelFamily(configure=partial(_configure, third=True), weights=_weights)
