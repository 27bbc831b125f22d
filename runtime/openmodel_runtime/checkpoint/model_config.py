"""What `config.json` says about a model's shape.

Knows the Hub's field names, old and new; knows no tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmodel_runtime.errors import CheckpointError, UnsupportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of a decoder-only model."""

    architecture: str
    """First entry of `architectures`."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of a feed-forward block or of one expert."""
    num_layers: int
    """Number of blocks."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key/value heads."""
    head_dim: int
    """Width of one head."""
    vocab_size: int
    """Rows of the embedding."""
    max_position_embeddings: int
    """Longest sequence the model was made for, tokens."""
    rms_norm_eps: float
    """Added to the mean square in each norm."""
    rope_theta: float
    """Base of the rotary frequencies."""
    tie_word_embeddings: bool
    """True: the head is the embedding."""
    torch_dtype: str
    """Dtype of the stored weights."""
    num_experts: int = 0
    """Routed experts a block; 0 for a dense model."""
    num_experts_per_tok: int = 0
    """Experts a token goes to."""

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of keys and values of one token over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * element_bytes


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; CheckpointError when there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is missing: not a Hugging Face checkpoint") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} must hold a JSON object")
    return value


def parse_model_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Reads the fields of `config.json`; refuses what would be computed wrongly."""
    architectures = raw.get("architectures") or []
    if not architectures:
        raise UnsupportedModel("config.json names no architectures")
    if quantization := raw.get("quantization_config"):
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise UnsupportedModel(f"config.json: quantization_config ({method}) is not supported yet")
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CheckpointError("config.json: rope_parameters and rope_scaling must be objects")
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise UnsupportedModel(f"config.json: rotary scaling {rope_type!r} is not supported yet")
    if raw.get("sliding_window"):
        raise UnsupportedModel("config.json: sliding_window is not supported yet")
    if raw.get("attention_bias") or raw.get("mlp_bias"):
        raise UnsupportedModel("config.json: attention_bias and mlp_bias are not supported yet")
    if raw.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(f"config.json: hidden_act {raw['hidden_act']!r} is not supported")
    try:
        heads = _positive(raw, "num_attention_heads")
        hidden = _positive(raw, "hidden_size")
        return ModelConfig(
            architecture=str(architectures[0]),
            hidden_size=hidden,
            intermediate_size=_positive(raw, "intermediate_size"),
            num_layers=_positive(raw, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or hidden // heads),
            vocab_size=_positive(raw, "vocab_size"),
            max_position_embeddings=_positive(raw, "max_position_embeddings"),
            rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            rope_theta=float(rope.get("rope_theta", raw.get("rope_theta", 10000.0))),
            tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
            torch_dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
            num_experts=int(raw.get("num_local_experts", 0)),
            num_experts_per_tok=int(raw.get("num_experts_per_tok", 0)),
        )
    except KeyError as error:
        raise CheckpointError(f"config.json lacks {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config.json: {error}") from None


def _positive(raw: Mapping[str, Any], field: str) -> int:
    number = int(raw[field])
    if number < 1:
        raise ValueError(f"{field} must be at least 1, not {number}")
    return number
