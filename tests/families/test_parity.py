"""Every family beside transformers (Grok-1: the published code), and beside itself in other chunks and company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import weight_bytes

from . import grok1_reference as grok1
from .catalog import MODELS, SERVED, write_checkpoint, write_served
from .ours import Sequences, load

PROMPT_TOKENS, NEW_TOKENS = 90, 16
all_models = pytest.mark.parametrize("name", MODELS)
all_served = pytest.mark.parametrize("name", SERVED)


def prompt(seed: int = 0, tokens: int = PROMPT_TOKENS) -> list[int]:
    chance = torch.Generator().manual_seed(seed)
    return torch.randint(0, 199, (tokens,), generator=chance).tolist()


def greedy(model: CausalLM, tokens: list[int], count: int) -> list[int]:
    sequence, found, chunk = Sequences(model, 1), [], tokens
    for _ in range(count):
        found.append(int(sequence.run([chunk])[0][-1].argmax()))
        chunk = found[-1:]
    return found


@all_models
def test_logits_and_greedy_tokens_are_transformers(name: str, tmp_path: Path) -> None:
    theirs: Any = write_checkpoint(name, tmp_path)
    ours = load(tmp_path, CpuKernels(), torch.float32)
    tokens = prompt()
    with torch.inference_mode():
        expected = theirs(torch.tensor([tokens])).logits[0]
        continued = theirs.generate(torch.tensor([tokens]), max_new_tokens=NEW_TOKENS, do_sample=False)[0]
    assert_close(Sequences(ours, 1).run([tokens])[0], expected)
    assert greedy(ours, tokens, NEW_TOKENS) == continued[PROMPT_TOKENS:].tolist()


def test_grok_1_is_the_published_code(tmp_path: Path) -> None:
    shape = grok1.Grok1Shape()
    weights = grok1.make_weights(shape)
    grok1.write_checkpoint(shape, weights, tmp_path)
    ours = load(tmp_path, CpuKernels(), torch.float32)
    tokens = prompt()
    assert_close(Sequences(ours, 1).run([tokens])[0], grok1.logits(shape, weights, tokens))
    found = greedy(ours, tokens, NEW_TOKENS)
    expected = grok1.logits(shape, weights, tokens + found)[PROMPT_TOKENS - 1 : -1].argmax(-1)
    assert found == expected.tolist()


@all_served
def test_chunks_and_company_change_no_bit(name: str, tmp_path: Path) -> None:
    write_served(name, tmp_path, torch.bfloat16)
    assert_same_bits(load(tmp_path, CpuKernels(), torch.bfloat16), prompt())
    in_eight_bits = load(tmp_path, CpuKernels(), torch.bfloat16, int8=True)
    assert_same_bits(in_eight_bits, prompt())


@all_served
def test_weights_in_eight_bits(name: str, tmp_path: Path) -> None:
    """Half the bytes, and nearly the same logits: a matrix that was packed wrongly would give others."""
    write_served(name, tmp_path)
    exact = load(tmp_path, CpuKernels(), torch.float32)
    rounded = load(tmp_path, CpuKernels(), torch.float32, int8=True)
    assert weight_bytes(rounded) < 0.4 * weight_bytes(exact)
    expected, logits = (Sequences(model, 1).run([prompt()])[0] for model in (exact, rounded))
    likeness = torch.nn.functional.cosine_similarity(logits, expected, dim=-1)
    assert likeness.median() > 0.95


def assert_close(logits: Tensor, expected: Tensor) -> None:
    spread = float(expected.std())
    assert spread > 0.1
    torch.testing.assert_close(logits, expected, atol=2e-4 * spread, rtol=2e-4)


def assert_same_bits(ours: CausalLM, tokens: list[int]) -> None:
    whole = Sequences(ours, 1).run([tokens])[0]
    for chunks in ([1] * PROMPT_TOKENS, [33, 1, 56], [64, 26]):
        sequences, done, rows = Sequences(ours, 2), 0, []
        for turn, count in enumerate(chunks):
            beside = prompt(turn + 1, turn % 4 + 1)
            rows.append(sequences.run([beside, tokens[done : done + count]])[1])
            done += count
        assert torch.equal(torch.cat(rows), whole), chunks
