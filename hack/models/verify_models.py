"""Compares the built checkpoints with what transformers itself makes of the GGUF file.

Knows transformers, and nothing of how the files were written. Every check stops at the first
difference: a test model that is nearly right would make every later comparison worthless.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from checkpoint_folder import Progress
from smollm2_gguf import SmolLM2Gguf

TEXTS = (
    "The capital of France is",
    "a",
    "In 1969, 4 people paid $12,345.67 for 1000000 things.",
    "def f(x: int) -> int:\n    return x ** 2  # squared\n\n\tdone",
    "Voilà, l'été à Zürich — ça coûte 5 €. Привет, мир! 你好，世界。こんにちは 🙂👩‍👩‍👧 مرحبا",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "   spaces   and\r\n\r\nlines\t\t",
)


def verify_models(source: SmolLM2Gguf, gguf: Path, dense: Path, mixture: Path, progress: Progress) -> None:
    """All checks; stops with the reason at the first that fails."""
    token_ids = _verify_tokenizer(gguf, (dense, mixture))
    progress(f"verify: token ids equal on {len(TEXTS)} texts, chat template equal")
    largest = _verify_logits(source, gguf, dense, token_ids)
    progress(f"verify: logits equal before rounding (max abs diff 0.0, max abs logit {largest:.1f})")
    progress(f"verify: {_verify_weights(source, dense)} tensors are the rounded ones, bit for bit")
    rounding = _verify_loading(source, dense, token_ids)
    progress(f"verify: dense loads whole; rounding to bfloat16 moves logits by {rounding:.2f} at most")
    low, high = _verify_experts(dense, mixture)
    progress(f"verify: mixture is the dense model with {low:.2%} to {high:.2%} of noise in experts")
    gc.collect()
    count = _verify_mixture(mixture)
    progress(f"verify: mixture loads whole, {count:,} parameters")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"verify: {otherwise}")


def _verify_tokenizer(gguf: Path, folders: Sequence[Path]) -> list[list[int]]:
    reference = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    expected = [reference(text)["input_ids"] for text in TEXTS]
    messages = [{"role": "user", "content": "What is 12 + 34?"}]
    for folder in folders:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for text, ids in zip(TEXTS, expected, strict=True):
            got = tokenizer(text)["input_ids"]
            _require(got == ids, f"{folder.name}: {text!r} gives {got}, expected {ids}")
            decoded = tokenizer.decode(got)
            _require(decoded == reference.decode(ids), f"{folder.name}: {text!r} decodes differently")
        for role in ("bos", "eos", "pad", "unk"):
            pair = [getattr(made, f"{role}_token_id") for made in (tokenizer, reference)]
            _require(pair[0] == pair[1], f"{folder.name}: {role} differs: {pair}")
        prompts = [
            made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for made in (tokenizer, reference)
        ]
        _require(prompts[0] == prompts[1], f"{folder.name}: the chat template differs")
    return expected


def _verify_logits(source: SmolLM2Gguf, gguf: Path, dense: Path, token_ids: list[list[int]]) -> float:
    reference = _transformers_model(gguf)
    expected = [_logits(reference, ids) for ids in token_ids]
    del reference
    gc.collect()
    ours = _exact_model(source, dense)
    for ids, wanted in zip(token_ids, expected, strict=True):
        difference = float((_logits(ours, ids) - wanted).abs().max())
        _require(difference == 0.0, f"logits differ by {difference} from transformers' GGUF loader")
    return max(float(logits.abs().max()) for logits in expected)


def _transformers_model(gguf: Path) -> Any:
    """What `from_pretrained(gguf_file=…)` makes of the file, in float32.

    Its own steps one by one, because that front door wants accelerate, which nothing here needs.
    """
    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = _empty_model(config)
    read: Any = load_gguf_checkpoint  # not annotated where it comes from
    return _filled(model, read(str(gguf), return_tensors=True, model_to_load=model)["tensors"])


def _exact_model(source: SmolLM2Gguf, dense: Path) -> Any:
    """The dense model before rounding, in float32, under the configuration that was written."""
    model = _empty_model(LlamaConfig.from_pretrained(dense))
    return _filled(model, {name: torch.from_numpy(source.tensor(name)) for name in source.tensor_names})


def _empty_model(config: Any) -> Any:
    model: Any = LlamaForCausalLM(config)
    return model.to(torch.float32).eval()


def _filled(model: Any, state: dict[str, torch.Tensor]) -> Any:
    missing, unexpected = model.load_state_dict(state, strict=False)
    # The head is the tied embedding: one parameter under two names.
    _require(missing in ([], ["lm_head.weight"]), f"missing: {missing}")
    _require(not unexpected, f"unexpected: {unexpected}")
    _require(model.lm_head.weight is model.model.embed_tokens.weight, "the head is not tied")
    return model


def _verify_weights(source: SmolLM2Gguf, dense: Path) -> int:
    with safe_open(dense / "model.safetensors", framework="pt") as stored:
        _require(set(stored.keys()) == set(source.tensor_names), "the file's names differ")
        for name in source.tensor_names:
            rounded = torch.from_numpy(source.tensor(name)).to(torch.bfloat16)
            _require(torch.equal(stored.get_tensor(name), rounded), f"{name} differs")
    return len(source.tensor_names)


def _verify_loading(source: SmolLM2Gguf, dense: Path, token_ids: list[list[int]]) -> float:
    exact = _exact_model(source, dense)
    rounded = _load_whole(dense, torch.float32)
    return max(float((_logits(exact, ids) - _logits(rounded, ids)).abs().max()) for ids in token_ids)


def _verify_experts(dense: Path, mixture: Path) -> tuple[float, float]:
    """Everything outside the experts is the dense model's; returns the range of the noise."""
    noise: list[float] = []
    with safe_open(dense / "model.safetensors", framework="pt") as original:
        for shard in sorted(mixture.glob("*.safetensors")):
            with safe_open(shard, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - the file is no mapping
                    tensor = stored.get_tensor(name)
                    block, _, sparse = name.partition(".block_sparse_moe.experts.")
                    if sparse:
                        matrix = {"w1": "gate", "w2": "down", "w3": "up"}[sparse.split(".")[1]]
                        dense_tensor = original.get_tensor(f"{block}.mlp.{matrix}_proj.weight")
                        difference = tensor.float() - dense_tensor.float()
                        noise.append(float(difference.std() / dense_tensor.float().std()))
                    elif not name.endswith("block_sparse_moe.gate.weight"):
                        _require(torch.equal(tensor, original.get_tensor(name)), f"{name} differs")
    _require(all(0.049 < part < 0.051 for part in noise), f"noise {min(noise)} to {max(noise)}")
    return min(noise), max(noise)


def _verify_mixture(mixture: Path) -> int:
    return sum(parameter.numel() for parameter in _load_whole(mixture, torch.bfloat16).parameters())


def _load_whole(folder: Path, dtype: torch.dtype) -> Any:
    auto: Any = AutoModelForCausalLM
    model, report = auto.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    problems = {kind: names for kind, names in report.items() if names}
    _require(not problems, f"{folder.name} does not load whole: {problems}")
    return model.eval()


@torch.inference_mode()
def _logits(model: Any, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([ids])).logits
    return logits
