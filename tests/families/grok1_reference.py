"""Grok-1 in plain torch, written from xAI's published JAX code (xai-org/grok-1, model.py and run.py).

One sequence, float32, no cache, no kernels: an expert is a loop. Names are the Hub's (hpcai-tech/grok-1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import gelu


@dataclass(frozen=True, slots=True)
class Grok1Shape:
    """A small Grok-1; the scales are those of the published one."""

    vocab: int = 199
    hidden: int = 96
    layers: int = 3
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 16
    experts: int = 5
    per_token: int = 2
    width: int = 80
    embedding_scale: float = 78.38367176906169
    logits_scale: float = 0.5773502691896257
    score_scale: float = 0.08838834764831845
    softcap: float = 30.0


def make_weights(shape: Grok1Shape) -> dict[str, Tensor]:
    """Random numbers, the same ones always, large enough for scores to meet their cap."""
    chance = torch.Generator().manual_seed(0)

    def some(*size: int) -> Tensor:
        return torch.randn(size, generator=chance) * 0.3

    weights = {"model.embed_tokens.weight": some(shape.vocab, shape.hidden), "model.norm.scale": 1 + some(shape.hidden)}
    for layer in range(shape.layers):
        block = f"model.layers.{layer}"
        for norm in ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"):
            weights[f"{block}.{norm}.scale"] = 1 + some(shape.hidden)
        q_dim, kv_dim = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        weights[f"{block}.attn.q_proj.weight"] = 4 * some(q_dim, shape.hidden)
        weights[f"{block}.attn.k_proj.weight"] = 4 * some(kv_dim, shape.hidden)
        weights[f"{block}.attn.v_proj.weight"] = some(kv_dim, shape.hidden)
        weights[f"{block}.attn.o_proj.weight"] = some(shape.hidden, q_dim)
        weights[f"{block}.moe_block.gate.weight"] = some(shape.experts, shape.hidden)
        for expert in range(shape.experts):
            name = f"{block}.moe_block.experts.{expert}"
            weights[f"{name}.linear.weight"] = some(shape.width, shape.hidden)
            weights[f"{name}.linear_v.weight"] = some(shape.width, shape.hidden)
            weights[f"{name}.linear_1.weight"] = some(shape.hidden, shape.width)
    return weights


def write_checkpoint(shape: Grok1Shape, weights: dict[str, Tensor], folder: Path) -> None:
    """The files, as they are published in Hugging Face's form."""
    config = {
        "architectures": ["Grok1ModelForCausalLM"],
        "model_type": "grok-1",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "attn_output_multiplier": shape.score_scale,
        "embedding_multiplier_scale": shape.embedding_scale,
        "output_multiplier_scale": shape.logits_scale,
        "max_attn_value": shape.softcap,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.per_token,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    # The head is stored though it is the embedding.
    save_file({**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()}, folder / "model.safetensors")


def logits(shape: Grok1Shape, weights: dict[str, Tensor], tokens: list[int]) -> Tensor:
    """A row of logits for each token."""

    def norm(x: Tensor, name: str) -> Tensor:
        return weights[f"{name}.scale"] * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)

    h = weights["model.embed_tokens.weight"][tokens] * shape.embedding_scale
    for layer in range(shape.layers):
        block = f"model.layers.{layer}"
        h = h + norm(_attention(shape, weights, block, norm(h, f"{block}.pre_attn_norm")), f"{block}.post_attn_norm")
        h = h + norm(_experts(shape, weights, block, norm(h, f"{block}.pre_moe_norm")), f"{block}.post_moe_norm")
    return norm(h, "model.norm") @ weights["model.embed_tokens.weight"].T * shape.logits_scale


def _attention(shape: Grok1Shape, weights: dict[str, Tensor], block: str, x: Tensor) -> Tensor:
    count = len(x)

    def project(name: str, heads: int) -> Tensor:
        return (x @ weights[f"{block}.attn.{name}_proj.weight"].T).view(count, heads, shape.head_dim).transpose(0, 1)

    q, k, v = project("q", shape.heads), project("k", shape.kv_heads), project("v", shape.kv_heads)
    q, k = _rotate(q), _rotate(k)
    shared = shape.heads // shape.kv_heads
    scores = q @ k.repeat_interleave(shared, 0).transpose(1, 2) * shape.score_scale
    scores = shape.softcap * torch.tanh(scores / shape.softcap)
    scores = scores.masked_fill(torch.ones(count, count, dtype=torch.bool).triu(1), float("-inf"))
    out = torch.softmax(scores, -1) @ v.repeat_interleave(shared, 0)
    return out.transpose(0, 1).reshape(count, -1) @ weights[f"{block}.attn.o_proj.weight"].T


def _rotate(x: Tensor) -> Tensor:
    dim = x.shape[-1]
    phase = torch.arange(x.shape[1])[:, None] / 10000 ** (torch.arange(0, dim, 2) / dim)
    phase = phase.tile(1, 2)
    first, second = x.chunk(2, -1)
    return x * phase.cos() + torch.cat((-second, first), -1) * phase.sin()


def _experts(shape: Grok1Shape, weights: dict[str, Tensor], block: str, x: Tensor) -> Tensor:
    chances = torch.softmax(x @ weights[f"{block}.moe_block.gate.weight"].T, -1)
    gates, chosen = chances.topk(shape.per_token)
    rows = []
    for row, row_gates, row_chosen in zip(x, gates, chosen.tolist(), strict=True):
        total = torch.zeros_like(row)
        for gate, expert in zip(row_gates, row_chosen, strict=True):
            name = f"{block}.moe_block.experts.{expert}"
            hidden = gelu(weights[f"{name}.linear.weight"] @ row, approximate="tanh")
            hidden = hidden * (weights[f"{name}.linear_v.weight"] @ row)
            total = total + gate * (weights[f"{name}.linear_1.weight"] @ hidden)
        rows.append(total)
    return torch.stack(rows)
