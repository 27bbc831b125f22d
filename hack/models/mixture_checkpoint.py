"""Writes a Mixtral-format mixture of 8 experts, made from the dense model by sparse upcycling.

Knows Mixtral's names and config.json, the recipe (copies, noise, router) and sharding.
Does not know GGUF. The result is a test vehicle with real weights, not a trained mixture.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from checkpoint_folder import Progress, write_json
from dense_checkpoint import dense_config
from model_cards import mixture_card
from smollm2_gguf import FloatArray, SmolLM2Gguf
from tokenizer_files import write_tokenizer_files

NAME = "smollm2-moe-8x135m"
EXPERTS = 8
EXPERTS_PER_TOKEN = 2
NOISE = 0.05  # of each matrix's standard deviation
ROUTER_STD = 0.5  # over sqrt(hidden size)
SEED = 1
SHARD_BYTES = 500_000_000
BYTES_PER_VALUE = 2  # bfloat16

# Mixtral's names of an expert's three matrices.
EXPERT_NAMES = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def write_mixture(folder: Path, source: SmolLM2Gguf, licence: Path, progress: Progress) -> None:
    """The whole checkpoint, into an empty folder; one shard is in memory at a time."""
    names = mixture_tensors(source)
    shards = plan_shards(names)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        progress(f"{NAME}: shard {number} of {len(shards)}, {len(shard)} tensors")
        tensors = dict(_values(source, shard))
        save_file(tensors, folder / file_name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file_name))
    total = BYTES_PER_VALUE * sum(math.prod(shape) for shape in names.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)
    write_json(folder / "config.json", mixture_config(source))
    write_tokenizer_files(folder, source.vocabulary, source.architecture.max_position_embeddings)
    card = mixture_card(experts=EXPERTS, per_token=EXPERTS_PER_TOKEN, noise=NOISE, seed=SEED)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "LICENSE").write_bytes(licence.read_bytes())


def mixture_config(source: SmolLM2Gguf) -> dict[str, object]:
    """Mixtral's config.json: the dense sizes, and Mixtral's own keys."""
    dense = dense_config(source)
    llama_only = {"attention_bias", "is_llama_config", "mlp_bias", "pretraining_tp"}
    llama_only |= {"rope_interleaved", "rope_scaling"}
    shared = {key: value for key, value in dense.items() if key not in llama_only}
    mixture = {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_experts_per_tok": EXPERTS_PER_TOKEN,
        "num_local_experts": EXPERTS,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.02,
        "router_jitter_noise": 0.0,
        "sliding_window": None,
    }
    return dict(sorted({**shared, **mixture}.items()))


def mixture_tensors(source: SmolLM2Gguf) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and shape, in model order."""
    tensors: dict[str, tuple[int, ...]] = {}
    for name in source.tensor_names:
        block, _, matrix = name.partition(".mlp.")
        if not matrix:
            tensors[name] = source.shape(name)
            continue
        sparse = f"{block}.block_sparse_moe"
        tensors.setdefault(f"{sparse}.gate.weight", (EXPERTS, source.architecture.hidden_size))
        expert_name = EXPERT_NAMES[matrix.removesuffix(".weight")]
        for expert in range(EXPERTS):
            tensors[f"{sparse}.experts.{expert}.{expert_name}.weight"] = source.shape(name)
    return tensors


def plan_shards(tensors: dict[str, tuple[int, ...]]) -> list[list[str]]:
    """Fills shards in model order; a tensor never straddles two files."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in tensors.items():
        size = BYTES_PER_VALUE * math.prod(shape)
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _values(source: SmolLM2Gguf, names: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    # A layer's eight experts follow one another, so the last dense matrix is worth keeping.
    kept_name, kept = "", np.empty(0, dtype=np.float32)
    for name in names:
        block, _, sparse = name.partition(".block_sparse_moe.")
        if not sparse:
            values = source.tensor(name)
        elif sparse == "gate.weight":
            values = _router(name, source.architecture.hidden_size)
        else:
            dense_name = f"{block}.mlp.{_dense_matrix(sparse)}.weight"
            if dense_name != kept_name:
                kept_name, kept = dense_name, source.tensor(dense_name)
            values = _noisy(name, kept)
        yield name, torch.from_numpy(values).to(torch.bfloat16)


def _dense_matrix(sparse: str) -> str:
    expert_name = sparse.split(".")[2]
    return next(dense for dense, short in EXPERT_NAMES.items() if short == expert_name)


def _router(name: str, hidden_size: int) -> FloatArray:
    scale = np.float32(ROUTER_STD / math.sqrt(hidden_size))
    return scale * _normal(name, (EXPERTS, hidden_size))


def _noisy(name: str, dense: FloatArray) -> FloatArray:
    scale = np.float32(NOISE * np.std(dense, dtype=np.float64))
    return dense + scale * _normal(name, dense.shape)


def _normal(name: str, shape: tuple[int, ...]) -> FloatArray:
    """Normal values that depend on the tensor's name alone, so no order or sharding matters.

    From numpy, because torch's CPU generator takes another path on each vector width.
    """
    key = hashlib.sha256(f"{SEED} {name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))
    return generator.standard_normal(shape, dtype=np.float32)
