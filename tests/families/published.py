"""Published models: their hyperparameters, and what is known of them from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import transformers

_LLAMA31_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _shape(hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, vocab: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
    }


@dataclass(frozen=True, slots=True)
class Published:
    """One model."""

    config: Any
    """transformers' configuration class."""
    options: dict[str, Any]
    billions: float
    """Parameters, as its publishers say."""


MODELS = {
    "Llama-2-7b": Published(transformers.LlamaConfig, _shape(4096, 11008, 32, 32, 32, 32000), 6.74),
    "Llama-3.1-8B": Published(
        transformers.LlamaConfig,
        _shape(4096, 14336, 32, 32, 8, 128256) | {"rope_parameters": _LLAMA31_ROPE, "max_position_embeddings": 131072},
        8.03,
    ),
    "Mistral-7B-v0.1": Published(
        transformers.MistralConfig, _shape(4096, 14336, 32, 32, 8, 32000) | {"sliding_window": 4096}, 7.24
    ),
    "Ministral-3-14B": Published(
        transformers.Ministral3Config, _shape(5120, 16384, 40, 32, 8, 131072) | {"head_dim": 128}, 13.5
    ),
    "Ministral-8B-2410": Published(
        transformers.MinistralConfig,
        _shape(4096, 12288, 36, 32, 8, 131072)
        | {"head_dim": 128, "sliding_window": 32768}
        | {"layer_types": ["full_attention", *["sliding_attention"] * 3] * 9},
        8.02,
    ),
    "Mixtral-8x7B": Published(
        transformers.MixtralConfig, _shape(4096, 14336, 32, 32, 8, 32000) | {"sliding_window": None}, 46.7
    ),
    "Mixtral-8x22B": Published(
        transformers.MixtralConfig, _shape(6144, 16384, 56, 48, 8, 32768) | {"sliding_window": None}, 140.6
    ),
    "Qwen2-7B": Published(transformers.Qwen2Config, _shape(3584, 18944, 28, 28, 4, 152064), 7.62),
    "Qwen2.5-0.5B": Published(
        transformers.Qwen2Config, _shape(896, 4864, 24, 14, 2, 151936) | {"tie_word_embeddings": True}, 0.494
    ),
    "Qwen3-8B": Published(transformers.Qwen3Config, _shape(4096, 12288, 36, 32, 8, 151936) | {"head_dim": 128}, 8.19),
    "Qwen3-30B-A3B": Published(
        transformers.Qwen3MoeConfig,
        _shape(2048, 6144, 48, 32, 4, 151936)
        | {"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
        30.5,
    ),
    "gpt-oss-20b": Published(
        transformers.GptOssConfig, {"num_hidden_layers": 24, "num_local_experts": 32, "vocab_size": 201088}, 20.9
    ),
    "gpt-oss-120b": Published(transformers.GptOssConfig, {}, 116.8),
    "DeepSeek-V2-Lite": Published(
        transformers.DeepseekV2Config,
        _shape(2048, 10944, 27, 16, 16, 102400)
        | {"q_lora_rank": None, "kv_lora_rank": 512, "n_routed_experts": 64, "n_shared_experts": 2}
        | {"num_experts_per_tok": 6, "moe_intermediate_size": 1408, "first_k_dense_replace": 1},
        15.7,
    ),
    "DeepSeek-V2": Published(
        transformers.DeepseekV2Config,
        _shape(5120, 12288, 60, 128, 128, 102400)
        | {"n_routed_experts": 160, "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1536}
        | {"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3, "first_k_dense_replace": 1},
        236,
    ),
    "DeepSeek-V3": Published(
        transformers.DeepseekV3Config, _shape(7168, 18432, 61, 128, 128, 129280) | {"moe_intermediate_size": 2048}, 671
    ),
}

GROK_1 = {
    **_shape(6144, 32768, 64, 48, 8, 131072),
    "architectures": ["Grok1ModelForCausalLM"],
    "max_position_embeddings": 8192,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
GROK_1_BILLIONS = 314


@dataclass(frozen=True, slots=True)
class PublishedIndex:
    """What a published model.safetensors.index.json holds."""

    config: dict[str, Any]
    """The config.json beside it, as far as shapes go."""
    tensors: int
    names_sha256: str
    """Of the sorted names, one a line."""
    total_size: int
    """Bytes of all tensors, bfloat16."""


INDEXES = {
    "WizardLM-2-8x22B": PublishedIndex(
        _shape(6144, 16384, 56, 48, 8, 32000)
        | {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2}
        | {"max_position_embeddings": 65536, "rope_theta": 1000000, "sliding_window": None},
        1739,
        "4d6ee2d89adb5606788e51676f266765e10db4e0a0698d02cd6d3828d318f569",
        281241268224,
    ),
    "Devstral-Small-2507": PublishedIndex(
        _shape(5120, 32768, 40, 32, 8, 131072)
        | {"architectures": ["MistralForCausalLM"], "head_dim": 128, "sliding_window": None}
        | {"max_position_embeddings": 131072, "rope_theta": 1000000000.0},
        363,
        "4fd039858d618d862a13a3d8bd92f0f3331439d371eeaf0137bc45ef1acd4456",
        47144806400,
    ),
}
