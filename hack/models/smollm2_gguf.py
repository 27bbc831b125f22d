"""Reads SmolLM2-135M-Instruct from its GGUF file in the terms of a Hugging Face checkpoint.

Knows GGUF's key and tensor names, dequantization, and the row order llama.cpp gives q and k.
Does not know the files a checkpoint consists of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# GGUF's name of a layer's tensor to the one that Llama checkpoints use.
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL


@dataclass(frozen=True)
class Architecture:
    """The sizes of the model, as the file states them."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    max_position_embeddings: int
    rope_theta: int
    rms_norm_eps: float


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer's content, as the file states it."""

    tokens: Sequence[str]
    merges: Sequence[tuple[str, str]]
    control_ids: Sequence[int]
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int
    chat_template: str


class SmolLM2Gguf:
    """The file, opened. Tensors are dequantized one at a time, when asked for."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        for key, expected in (
            ("general.architecture", "llama"),
            ("tokenizer.ggml.model", "gpt2"),
            ("tokenizer.ggml.pre", "smollm"),
            ("general.license", "apache-2.0"),
        ):
            if self._field(key) != expected:
                raise ValueError(f"{key} is {self._field(key)!r}, and {expected!r} is expected")
        self.architecture = self._read_architecture()
        self.vocabulary = self._read_vocabulary()
        self._names = self._checkpoint_names()
        missing = self._tensors.keys() ^ self._names.values()
        if missing:
            raise ValueError(f"the file's tensors are not those of a Llama: {sorted(missing)}")

    @property
    def tensor_names(self) -> Sequence[str]:
        """Checkpoint names in model order; there is no lm_head, the embedding is tied."""
        return tuple(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape in checkpoint order; GGUF lists the fastest dimension first."""
        return tuple(int(size) for size in reversed(self._tensors[self._names[name]].shape))

    def tensor(self, name: str) -> FloatArray:
        """The dequantized tensor, with q and k in the row order of a Hugging Face checkpoint."""
        stored = self._tensors[self._names[name]]
        values = gguf.quants.dequantize(stored.data, stored.tensor_type)
        # A copy, because unquantized tensors are views of the mapped, read-only file.
        array = np.array(values, dtype=np.float32).reshape(self.shape(name))
        if name.endswith("q_proj.weight"):
            return _halves_apart(array, self.architecture.num_attention_heads)
        if name.endswith("k_proj.weight"):
            return _halves_apart(array, self.architecture.num_key_value_heads)
        return array

    def _field(self, key: str) -> Any:
        field = self._reader.fields.get(key)
        if field is None:
            raise ValueError(f"the file has no {key}")
        return field.contents()

    def _read_architecture(self) -> Architecture:
        # The file holds 1e-5 as a float32; its shortest decimal form is what the publisher wrote.
        epsilon = np.float32(self._field("llama.attention.layer_norm_rms_epsilon"))
        return Architecture(
            num_hidden_layers=self._field("llama.block_count"),
            hidden_size=self._field("llama.embedding_length"),
            intermediate_size=self._field("llama.feed_forward_length"),
            num_attention_heads=self._field("llama.attention.head_count"),
            num_key_value_heads=self._field("llama.attention.head_count_kv"),
            vocab_size=self._field("llama.vocab_size"),
            max_position_embeddings=self._field("llama.context_length"),
            rope_theta=int(self._field("llama.rope.freq_base")),
            rms_norm_eps=float(str(epsilon)),
        )

    def _read_vocabulary(self) -> Vocabulary:
        kinds = self._field("tokenizer.ggml.token_type")
        pairs = [merge.split(" ") for merge in self._field("tokenizer.ggml.merges")]
        return Vocabulary(
            tokens=self._field("tokenizer.ggml.tokens"),
            merges=[(left, right) for left, right in pairs],
            control_ids=[index for index, kind in enumerate(kinds) if kind == CONTROL_TOKEN],
            bos_id=self._field("tokenizer.ggml.bos_token_id"),
            eos_id=self._field("tokenizer.ggml.eos_token_id"),
            pad_id=self._field("tokenizer.ggml.padding_token_id"),
            unk_id=self._field("tokenizer.ggml.unknown_token_id"),
            chat_template=self._field("tokenizer.chat_template"),
        )

    def _checkpoint_names(self) -> dict[str, str]:
        names = {"model.embed_tokens.weight": "token_embd.weight"}
        for layer in range(self.architecture.num_hidden_layers):
            for stored, name in LAYER_NAMES.items():
                names[f"model.layers.{layer}.{name}.weight"] = f"blk.{layer}.{stored}.weight"
        names["model.norm.weight"] = "output_norm.weight"
        return names


def _halves_apart(rows: FloatArray, heads: int) -> FloatArray:
    """Undoes llama.cpp's interleaving of a head's two rotary halves.

    Its converter stores rows 0, d/2, 1, d/2+1, … of each head, because its rotary embedding turns
    neighbouring rows; Hugging Face's turns row i with row i + d/2.
    """
    out_features, in_features = rows.shape
    pairs = rows.reshape(heads, out_features // heads // 2, 2, in_features)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)
