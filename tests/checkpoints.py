"""Checkpoints for tests: tiny random ones, written in a moment, and a digest for real ones.

Knows the Llama and Mixtral formats as the Hub has them, and a byte-level tokenizer that encodes
any text. Does not know the runtime under test, nor transformers.

The weights are scaled so that logits spread and the best two are rarely close: greedy decoding of
a tiny model is then stable against the order of floating-point sums.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 512
HIDDEN = 64
INTERMEDIATE = 128
LAYERS = 2
HEADS = 4
KV_HEADS = 2
HEAD_DIM = HIDDEN // HEADS
EXPERTS = 4
EXPERTS_PER_TOKEN = 2
CONTEXT = 512
UNKNOWN_ID, BOS_ID, EOS_ID = 0, 1, 2
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role: ' + message['role']) }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# What the tokenizer learns its merges from; any text would do, if it is long enough.
_TRAINING_TEXT = """
A model is a set of numbers and a rule to use them. The operator keeps a model running: it reads
what was asked for, looks at what is there, and takes one step after another until both agree.
The runtime turns a text into tokens, and each token into the next one, and sends them as they
come. When nobody asks, the model is put to sleep; when somebody asks again, it wakes up, and the
question waits until the weights are back. A mixture has many experts in every layer, and a router
that sends each token to a few of them, so that most of the weights rest while a token passes.
The user writes a message, the assistant answers, and the system says how it should answer.
In the year 2024 there were 135 million parameters in a small model, and 8 experts in a mixture.
for index in range(10): print(index, "is", index * index) if index % 2 == 0 else None
def the_answer(question: str) -> str: return "forty two" if question else "what was the question"
"""


def write_tiny_llama(
    folder: Path,
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    tie_word_embeddings: bool = True,
    shards: int = 1,
) -> Path:
    """Writes a random `LlamaForCausalLM` checkpoint into `folder` and returns it."""
    config = {
        **_shared_config(dtype, tie_word_embeddings),
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "mlp_bias": False,
        "model_type": "llama",
        "pretraining_tp": 1,
        "rope_scaling": None,
    }
    shapes = dict(_llama_shapes(tied=tie_word_embeddings))
    return _write(folder, seed, config, shapes, dtype, shards)


def write_tiny_mixtral(
    folder: Path,
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    tie_word_embeddings: bool = False,
    experts: int = EXPERTS,
    shards: int = 1,
) -> Path:
    """Writes a random `MixtralForCausalLM` checkpoint into `folder` and returns it."""
    config = {
        **_shared_config(dtype, tie_word_embeddings),
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_experts_per_tok": EXPERTS_PER_TOKEN,
        "num_local_experts": experts,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.02,
        "router_jitter_noise": 0.0,
        "sliding_window": None,
    }
    shapes = dict(_mixtral_shapes(tied=tie_word_embeddings, experts=experts))
    return _write(folder, seed, config, shapes, dtype, shards)


def tiny_tokenizer() -> Tokenizer:
    """Byte-level BPE with 512 tokens, all 256 bytes among them: every text has a round trip."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TRAINING_TEXT], trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise AssertionError(f"the training text yields {tokenizer.get_vocab_size()} tokens")
    return tokenizer


def checkpoint_sha256(folder: Path) -> str:
    """One digest of a checkpoint: over the sorted lines `path size sha256` of all its files."""
    lines = []
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            lines.append(f"{path.relative_to(folder).as_posix()} {path.stat().st_size} {digest}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _shared_config(dtype: torch.dtype, tied: bool) -> dict[str, object]:
    return {
        "attention_dropout": 0.0,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": EOS_ID,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def _llama_shapes(*, tied: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape in _frame_shapes(tied=tied):
        yield name, shape
        if name.endswith("post_attention_layernorm.weight"):
            mlp = name.replace("post_attention_layernorm.weight", "mlp")
            yield f"{mlp}.gate_proj.weight", (INTERMEDIATE, HIDDEN)
            yield f"{mlp}.up_proj.weight", (INTERMEDIATE, HIDDEN)
            yield f"{mlp}.down_proj.weight", (HIDDEN, INTERMEDIATE)


def _mixtral_shapes(*, tied: bool, experts: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape in _frame_shapes(tied=tied):
        yield name, shape
        if name.endswith("post_attention_layernorm.weight"):
            moe = name.replace("post_attention_layernorm.weight", "block_sparse_moe")
            yield f"{moe}.gate.weight", (experts, HIDDEN)
            for expert in range(experts):
                yield f"{moe}.experts.{expert}.w1.weight", (INTERMEDIATE, HIDDEN)
                yield f"{moe}.experts.{expert}.w2.weight", (HIDDEN, INTERMEDIATE)
                yield f"{moe}.experts.{expert}.w3.weight", (INTERMEDIATE, HIDDEN)


def _frame_shapes(*, tied: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Everything but the feed-forward blocks, which differ between the two formats."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (HIDDEN,)
        yield f"{prefix}.self_attn.q_proj.weight", (HEADS * HEAD_DIM, HIDDEN)
        yield f"{prefix}.self_attn.k_proj.weight", (KV_HEADS * HEAD_DIM, HIDDEN)
        yield f"{prefix}.self_attn.v_proj.weight", (KV_HEADS * HEAD_DIM, HIDDEN)
        yield f"{prefix}.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        yield f"{prefix}.post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    if not tied:
        yield "lm_head.weight", (VOCABULARY, HIDDEN)


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(shape, generator=generator)
    if name == "model.norm.weight":
        return 4.0 + 0.4 * values
    if name.endswith("norm.weight"):
        return 1.0 + 0.1 * values
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        # Small beside what the layers add, or a tied model would only repeat its last token.
        return 0.1 * values
    return 1.5 / math.sqrt(shape[-1]) * values


def _write(
    folder: Path,
    seed: int,
    config: dict[str, object],
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    shards: int,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: _random(name, shape, generator).to(dtype) for name, shape in shapes.items()}
    _write_tensors(folder, tensors, shards)
    _write_json(folder / "config.json", dict(sorted(config.items())))
    special = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID}
    _write_json(folder / "generation_config.json", {"_from_model_config": True, **special})
    _write_tokenizer(folder)
    return folder


def _write_tensors(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    metadata = {"format": "pt"}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata=metadata)
        return
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number in range(shards):
        shard = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        file_name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in shard}, folder / file_name, metadata=metadata)
        weight_map.update(dict.fromkeys(shard, file_name))
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(folder / "model.safetensors.index.json", index)


def _write_tokenizer(folder: Path) -> None:
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    unknown, bos, eos = SPECIAL_TOKENS
    roles = {"bos_token": bos, "eos_token": eos, "pad_token": eos, "unk_token": unknown}
    _write_json(folder / "special_tokens_map.json", roles)
    _write_json(
        folder / "tokenizer_config.json",
        {
            **roles,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONTEXT,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
