"""A Llama or Mixtral checkpoint as one bfloat16 GGUF file: `python -m bench.peers.write_gguf CHECKPOINT FILE`.

Knows llama.cpp's names, and the row order that it wants in q and k. The file has no vocabulary: the benchmark speaks in
token ids. Runs in the environment that `requirements/llama_cpp.txt` makes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16]
"""bfloat16 values, as numpy has no such type."""

_FRAME = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.down_proj": "ffn_down",
    "mlp.up_proj": "ffn_up",
    "block_sparse_moe.gate": "ffn_gate_inp",
}
_EXPERT = {"w1": "ffn_gate_exps", "w2": "ffn_down_exps", "w3": "ffn_up_exps"}
_EXPERT_NAME = re.compile(r"block_sparse_moe\.experts\.(\d+)\.(w[123])")
# llama.cpp computes norms and routers in float32 and wants them so in the file.
_FLOAT32 = ("_norm", "ffn_gate_inp")


def main() -> None:
    """Writes beside the target and renames, so that the file is whole or absent."""
    checkpoint, target = Path(sys.argv[1]), Path(sys.argv[2])
    partial = target.with_name(f"{target.name}.partial")
    write_gguf(checkpoint, partial)
    partial.rename(target)


def write_gguf(checkpoint: Path, file: Path) -> None:
    """The whole file; the checkpoint stays mapped, the experts of one layer at a time are copied."""
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    _add_sizes(writer, config)
    for name, bits in _tensors(checkpoint, config):
        if any(part in name for part in _FLOAT32):
            writer.add_tensor(name, (bits.astype(np.uint32) << 16).view(np.float32))
        else:
            values = np.ascontiguousarray(bits).view(np.uint8)
            writer.add_tensor(name, values, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: Any, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(float(config["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "num_local_experts" in config:
        writer.add_expert_count(config["num_local_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_tokenizer_model("none")


def _tensors(checkpoint: Path, config: dict[str, Any]) -> Iterator[tuple[str, Bits]]:
    """Every tensor under llama.cpp's name; the experts of a layer become one tensor."""
    experts: dict[str, dict[int, Bits]] = {}
    for name, bits in _stored(checkpoint):
        stem = name.removesuffix(".weight")
        if stem in _FRAME:
            yield f"{_FRAME[stem]}.weight", bits
            continue
        layer, _, part = stem.removeprefix("model.layers.").partition(".")
        if found := _EXPERT_NAME.fullmatch(part):
            merged = f"blk.{layer}.{_EXPERT[found[2]]}.weight"
            experts.setdefault(merged, {})[int(found[1])] = bits
            if len(experts[merged]) == config["num_local_experts"]:
                whole = experts.pop(merged)
                yield merged, np.stack([whole[number] for number in range(len(whole))])
            continue
        if part == "self_attn.q_proj":
            bits = _pairs_together(bits, config["num_attention_heads"])
        elif part == "self_attn.k_proj":
            bits = _pairs_together(bits, config["num_key_value_heads"])
        yield f"blk.{layer}.{_LAYER[part]}.weight", bits


def _pairs_together(bits: Bits, heads: int) -> Bits:
    """llama.cpp turns neighbouring rows together, the checkpoint rows half a head apart."""
    rows, columns = bits.shape
    return bits.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _stored(checkpoint: Path) -> Iterator[tuple[str, Bits]]:
    """Name and bits of every tensor. The format is a length, a JSON header and the data."""
    for path in sorted(checkpoint.glob("*.safetensors")):
        content = np.memmap(path, dtype=np.uint8, mode="r")
        length = int(content[:8].view(np.uint64)[0])
        header = json.loads(content[8 : 8 + length].tobytes())
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] != "BF16":
                raise ValueError(f"{name} is {entry['dtype']}, and BF16 is expected")
            begin, end = entry["data_offsets"]
            yield name, content[8 + length + begin : 8 + length + end].view(np.uint16).reshape(entry["shape"])


if __name__ == "__main__":
    main()
