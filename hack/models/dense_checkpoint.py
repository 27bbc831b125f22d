"""Writes SmolLM2-135M-Instruct as a Llama checkpoint in bfloat16.

Knows Llama's config.json and the single safetensors file.
Does not know GGUF, nor how a mixture is made from this model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from checkpoint_folder import Progress, write_json
from model_cards import dense_card
from smollm2_gguf import SmolLM2Gguf
from tokenizer_files import write_tokenizer_files

NAME = "smollm2-135m-instruct"


def write_dense(folder: Path, source: SmolLM2Gguf, licence: Path, progress: Progress) -> None:
    """The whole checkpoint, into an empty folder."""
    progress(f"{NAME}: dequantizing {len(source.tensor_names)} tensors")
    tensors = {name: torch.from_numpy(source.tensor(name)).to(torch.bfloat16) for name in source.tensor_names}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", dense_config(source))
    write_tokenizer_files(folder, source.vocabulary, source.architecture.max_position_embeddings)
    (folder / "README.md").write_text(dense_card(), encoding="utf-8")
    (folder / "LICENSE").write_bytes(licence.read_bytes())


def dense_config(source: SmolLM2Gguf) -> dict[str, object]:
    """config.json in the form the Hub's checkpoints have it (`rope_theta`, `torch_dtype`)."""
    sizes = source.architecture
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": source.vocabulary.bos_id,
        "eos_token_id": source.vocabulary.eos_id,
        "hidden_act": "silu",
        "hidden_size": sizes.hidden_size,
        "initializer_range": 0.041666666666666664,
        "intermediate_size": sizes.intermediate_size,
        # The published config has two keys of its training code; a loader has to pass over them.
        "is_llama_config": True,
        "max_position_embeddings": sizes.max_position_embeddings,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": sizes.num_attention_heads,
        "num_hidden_layers": sizes.num_hidden_layers,
        "num_key_value_heads": sizes.num_key_value_heads,
        "pad_token_id": source.vocabulary.pad_id,
        "pretraining_tp": 1,
        "rms_norm_eps": sizes.rms_norm_eps,
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": sizes.rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": sizes.vocab_size,
    }
