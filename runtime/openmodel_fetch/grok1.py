"""Grok-1 as xAI published it (`ckpt-0`, 770 pickles) into safetensors with the Hub's names.

The order of the files is that of the JAX program's parameters, sorted by name as text: embeddings and the last norm
(`language_model/…`), then twelve for each block (`transformer/decoder_layer_…`; block 10 comes after block 1). Matrices
are input by output there. Eight-bit weights become bfloat16, as the published code makes of them before it multiplies.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from openmodel_fetch.array_pickles import Quantized, read_arrays
from openmodel_runtime.errors import CheckpointError

_log = logging.getLogger(__name__)
_INDEX = "model.safetensors.index.json"
# Of a block, in the order of the files: the Hub's name, and whether a matrix is turned. Experts come in one array each.
_BLOCK = (
    ("moe_block.experts.{}.linear.weight", True),
    ("moe_block.experts.{}.linear_1.weight", True),
    ("moe_block.experts.{}.linear_v.weight", True),
    ("attn.k_proj.weight", True),
    ("attn.o_proj.weight", True),
    ("attn.q_proj.weight", True),
    ("attn.v_proj.weight", True),
    ("pre_attn_norm.scale", False),
    ("post_attn_norm.scale", False),
    ("pre_moe_norm.scale", False),
    ("post_moe_norm.scale", False),
    ("moe_block.gate.weight", True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrokShape:
    """What the arrays do not tell: heads, positions, end token. The published model's."""

    heads: int = 48
    kv_heads: int = 8
    experts_per_token: int = 2
    positions: int = 8192
    eos_token_id: int = 2
    blocks: int = 64


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, and what its array is called."""

    path: Path
    name: str
    turned: bool


def convert_grok1(checkpoint: Path, folder: Path, shape: GrokShape = GrokShape()) -> int:
    """Writes the checkpoint into the folder, a file for each of its own; returns its parameters.

    What a broken-off run has written is kept. CheckpointError says which file is missing or wrong. One file at a time
    is in memory, and what it becomes: of the published one up to 8 GB.
    """
    sources = list(_sources(checkpoint, shape.blocks))
    missing = [source.path.name for source in sources if not source.path.is_file()]
    if missing:
        raise CheckpointError(f"{checkpoint} has no {missing[0]}: {len(missing)} of {len(sources)} files are missing")
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / ".converted.json"
    # By file: what is in it.
    done: dict[str, dict[str, list[int]]] = json.loads(known.read_text()) if known.exists() else {}
    for number, source in enumerate(sources):
        file = f"model-{number + 1:05d}-of-{len(sources):05d}.safetensors"
        if file not in done:
            done[file] = _write(source, folder / file)
            _replace(known, done)
            _log.info("%s: %d of %d", source.path.name, number + 1, len(sources))
    shapes = {name: size for tensors in done.values() for name, size in tensors.items()}
    _replace(folder / "config.json", _config(shapes, shape))
    places = {name: file for file, tensors in done.items() for name in tensors}
    parameters = sum(torch.Size(size).numel() for size in shapes.values())
    # Last: without it this is no checkpoint.
    _replace(folder / _INDEX, {"metadata": {"total_size": 2 * parameters}, "weight_map": places})
    known.unlink()
    return parameters


def _sources(checkpoint: Path, blocks: int) -> Iterator[_Source]:
    def path(number: int) -> Path:
        return checkpoint / f"tensor{number:05d}_000"

    yield _Source(path(0), "model.embed_tokens.weight", False)
    yield _Source(path(1), "model.norm.scale", False)
    for place, block in enumerate(sorted(range(blocks), key=str)):
        for slot, (name, turned) in enumerate(_BLOCK):
            yield _Source(path(2 + place * len(_BLOCK) + slot), f"model.layers.{block}.{name}", turned)


def _write(source: _Source, file: Path) -> dict[str, list[int]]:
    tensors = dict(_named(source))
    written = file.with_suffix(".partial")
    save_file(tensors, written)
    written.rename(file)
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def _named(source: _Source) -> Iterator[tuple[str, Tensor]]:
    found = read_arrays(source.path)
    of_experts = "{}" in source.name
    wanted = 3 if of_experts else 2 if source.turned or "embed" in source.name else 1
    weight = found.weight if isinstance(found, Quantized) else found
    if weight.dim() != wanted:
        raise CheckpointError(f"{source.path} has an array of {tuple(weight.shape)}, {source.name} has {wanted} sizes")
    for index in range(len(weight) if of_experts else 1):
        one = _expanded(source, found, index if of_experts else None)
        yield source.name.format(index), (one.T if source.turned else one).contiguous()


def _expanded(source: _Source, found: Tensor | Quantized, index: int | None) -> Tensor:
    """One matrix in bfloat16, of the experts' the one of this index."""
    if not isinstance(found, Quantized):
        return (found if index is None else found[index]).to(torch.bfloat16)
    weight, scales = (found.weight, found.scales) if index is None else (found.weight[index], found.scales[index])
    rows, columns = weight.shape
    if scales.dim() != 2 or scales.shape[1] != columns or rows % scales.shape[0]:
        raise CheckpointError(f"{source.path} has factors of {tuple(scales.shape)} for {tuple(weight.shape)}")
    # Rows of one factor go together. Both are exact in bfloat16, and their product is rounded once.
    grouped = weight.view(scales.shape[0], -1, columns).to(torch.bfloat16)
    return (grouped * scales[:, None, :]).view(rows, columns)


def _config(shapes: dict[str, list[int]], shape: GrokShape) -> dict[str, object]:
    vocab, hidden = shapes["model.embed_tokens.weight"]
    return {
        "architectures": ["Grok1ModelForCausalLM"],
        "model_type": "grok-1",
        "torch_dtype": "bfloat16",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": shapes["model.layers.0.moe_block.experts.0.linear.weight"][0],
        "num_hidden_layers": shape.blocks,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shapes["model.layers.0.attn.q_proj.weight"][0] // shape.heads,
        "num_experts": shapes["model.layers.0.moe_block.gate.weight"][0],
        "num_experts_per_tok": shape.experts_per_token,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "attn_output_multiplier": 0.08838834764831845,
        "max_attn_value": 30.0,
        "embedding_multiplier_scale": 78.38367176906169,
        "output_multiplier_scale": 0.5773502691896257,
        "eos_token_id": shape.eos_token_id,
        "pad_token_id": 0,
    }


def _replace(path: Path, content: object) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(content, indent=1) + "\n")
    fresh.rename(path)
