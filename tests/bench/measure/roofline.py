"""The least time that one decode step can take on a machine.

Pure. Knows the sizes of Llama and Mixtral models and two limits of a machine; knows no engine.

A step computes one token for each of B streams. It can be no faster than memory delivers what it has to read, nor than
the cores do its arithmetic:

    step >= max(bytes / read bandwidth, operations / matrix rate)

    bytes      = 2 * (attention + norms + router + touched experts, all layers; head) + B * context * KV bytes a token
    operations = 2 * B * (parameters that one token uses) + B * 4 * context * heads * head size * layers

Weights are bfloat16, 2 bytes each. A dense layer has one feed-forward block. Of E experts of which a token takes k, B
tokens touch E * (1 - (1 - k/E)^B) when each goes to all experts alike (8 experts, 2 a token: 8 * (1 - 0.75^B)); a
router with favourites touches fewer. Of the embedding a step reads B rows, which is nothing; the head is counted, tied
or not. Activations are left out: they stay in the caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BYTES = 2  # bfloat16


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a model that decide what a step costs."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    experts: int = 1
    """Feed-forward blocks in a layer."""
    experts_per_token: int = 1

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """The shape that a checkpoint's config.json states."""
        heads = int(config["num_attention_heads"])
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            vocab=int(config["vocab_size"]),
            experts=int(config.get("num_local_experts") or 1),
            experts_per_token=int(config.get("num_experts_per_tok") or 1),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a machine can do at most, all threads together."""

    read_gb_per_s: float
    """Memory read, in 10^9 bytes a second."""
    bf16_gflop_per_s: float
    """bfloat16 matrix products, in 10^9 operations a second."""


def touched_experts(shape: ModelShape, streams: int) -> float:
    """Expected number of different experts that one layer uses in a step."""
    return shape.experts * (1 - (1 - shape.experts_per_token / shape.experts) ** streams)


def step_bytes(shape: ModelShape, streams: int, context: float) -> float:
    """Bytes that one step has to read."""
    touched = touched_experts(shape, streams)
    weights = shape.layers * (_layer_frame(shape) + touched * _expert(shape)) + _head(shape)
    kv_token = 2 * shape.layers * shape.kv_heads * shape.head_dim
    return _BYTES * (weights + streams * context * kv_token)


def step_operations(shape: ModelShape, streams: int, context: float) -> float:
    """Multiplications and additions of one step."""
    used = shape.layers * (_layer_frame(shape) + shape.experts_per_token * _expert(shape)) + _head(shape)
    attention = 4 * context * shape.heads * shape.head_dim * shape.layers
    return streams * (2 * used + attention)


def step_seconds(shape: ModelShape, limits: Limits, streams: int, context: float) -> float:
    """The least time for one step of `streams` streams that have `context` tokens each."""
    return max(
        step_bytes(shape, streams, context) / (limits.read_gb_per_s * 1e9),
        step_operations(shape, streams, context) / (limits.bf16_gflop_per_s * 1e9),
    )


def decode_tokens_per_s(shape: ModelShape, limits: Limits, streams: int, context: float) -> float:
    """Tokens a second of all streams that no engine on this machine can exceed."""
    return streams / step_seconds(shape, limits, streams, context)


def _layer_frame(shape: ModelShape) -> int:
    """Parameters of a layer outside of its feed-forward blocks."""
    attention = shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    router = shape.hidden * shape.experts if shape.experts > 1 else 0
    return attention + router + 2 * shape.hidden


def _expert(shape: ModelShape) -> int:
    return 3 * shape.hidden * shape.intermediate


def _head(shape: ModelShape) -> int:
    return shape.vocab * shape.hidden + shape.hidden
