"""Small random models of every family that transformers has, with every option that published configurations use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from . import grok1_reference as grok1

VOCABULARY = 199
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    # Wide weights: a fault shows in the logits.
    "initializer_range": 0.3,
    "attn_implementation": "eager",
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1500.0,
    "factor": 8.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 64,
    "truncate": False,
}
_DEEPSEEK = {
    "num_key_value_heads": 6,
    "kv_lora_rank": 48,
    "q_lora_rank": 40,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
}
_DEEPSEEK_YARN = {key: value for key, value in _YARN.items() if key != "truncate"} | {"mscale": 1.0}


@dataclass(frozen=True, slots=True)
class SmallModel:
    """A configuration to be filled with random numbers."""

    config: Callable[..., Any]
    options: dict[str, Any]


MODELS = {
    "llama-2": SmallModel(transformers.LlamaConfig, {}),
    "llama-3": SmallModel(
        transformers.LlamaConfig, {"rope_parameters": _LLAMA3, "tie_word_embeddings": True, "head_dim": 32}
    ),
    "llama-biased": SmallModel(
        transformers.LlamaConfig,
        {"attention_bias": True, "mlp_bias": True, "rope_parameters": {"rope_type": "linear", "factor": 2.0}},
    ),
    "mistral": SmallModel(transformers.MistralConfig, {"sliding_window": None, "head_dim": 32}),
    "mistral-window": SmallModel(transformers.MistralConfig, {"sliding_window": 20}),
    "ministral": SmallModel(
        transformers.MinistralConfig,
        {"sliding_window": 20, "head_dim": 32}
        | {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
    ),
    "ministral-3": SmallModel(
        transformers.Ministral3Config,
        {"head_dim": 32}
        | {"rope_parameters": _DEEPSEEK_YARN | {"mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}}
        | {"max_position_embeddings": 512},
    ),
    "mixtral": SmallModel(
        transformers.MixtralConfig, {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": None}
    ),
    "qwen2": SmallModel(transformers.Qwen2Config, {"use_sliding_window": False}),
    "qwen2-window": SmallModel(
        transformers.Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1, "tie_word_embeddings": True},
    ),
    "qwen2.5-yarn": SmallModel(transformers.Qwen2Config, {"rope_parameters": _YARN}),
    "qwen3": SmallModel(transformers.Qwen3Config, {"head_dim": 32}),
    "qwen3-moe": SmallModel(
        transformers.Qwen3MoeConfig,
        {"num_experts": 12, "num_experts_per_tok": 4, "moe_intermediate_size": 48, "norm_topk_prob": True}
        | {"head_dim": 32, "decoder_sparse_step": 1, "mlp_only_layers": []},
    ),
    "qwen3-moe-mixed": SmallModel(
        transformers.Qwen3MoeConfig,
        {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 48, "norm_topk_prob": False}
        | {"head_dim": 32, "decoder_sparse_step": 1, "mlp_only_layers": [1]},
    ),
    "gpt-oss": SmallModel(
        transformers.GptOssConfig,
        {"num_local_experts": 6, "num_experts_per_tok": 3, "sliding_window": 20, "head_dim": 32}
        | {"rope_parameters": _YARN, "intermediate_size": 64},
    ),
    "deepseek-v2-lite": SmallModel(
        transformers.DeepseekV2Config, _DEEPSEEK | {"q_lora_rank": None, "topk_method": "greedy", "n_group": 1}
    ),
    "deepseek-v2": SmallModel(
        transformers.DeepseekV2Config,
        _DEEPSEEK
        | {"topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0}
        | {"rope_parameters": _DEEPSEEK_YARN | {"mscale": 0.707, "mscale_all_dim": 0.707}},
    ),
    "deepseek-v3": SmallModel(
        transformers.DeepseekV3Config,
        _DEEPSEEK
        | {"routed_scaling_factor": 2.5, "norm_topk_prob": True, "rope_interleave": True}
        | {"rope_parameters": _DEEPSEEK_YARN | {"mscale_all_dim": 0.5}},
    ),
}


def make_model(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """The model, always the same one."""
    small = MODELS[name]
    torch.manual_seed(0)
    config = small.config(**(_SHAPE | small.options))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        # Biases, norms and sinks begin as zeros and ones, which a fault might never show.
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn_like(buffer) * 0.3)
    return model


def write_checkpoint(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Writes the model as its publishers would; returns it."""
    model = make_model(name, dtype)
    model.save_pretrained(folder)
    return model


GROK_1 = "grok-1"
SERVED = (*MODELS, GROK_1)
"""Every small model, also the one that transformers does not have."""


def write_served(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes any of them."""
    if name == GROK_1:
        shape = grok1.Grok1Shape()
        grok1.write_checkpoint(shape, grok1.make_weights(shape), folder)
    else:
        write_checkpoint(name, folder, dtype)
