"""Every backend gives a row the same bits whatever stands beside it: rows, chunks, threads, blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openmodel_kernels.interface import AttentionRule, Gate, Kernels, RoutingRule, SequenceRows
from openmodel_kernels.rotary import inverse_frequencies, rotary_tables

from .backends import INTERPRETED, all_backends, all_dtypes, backend

# Triton's interpreter is slow, and its tiles of 16 and 64 rows are crossed by fewer.
ROWS = 70 if INTERPRETED else 130
PARTS = [1, 17, 64, 65] if INTERPRETED else [*range(1, 36), 48, 63, 64, 65, 100]
CHUNKS = (
    [[1, 1, 60, *[1] * 8], [3, 30, 1, 36], [64, 6]]
    if INTERPRETED
    else [[1] * ROWS, [3, 60, 1, 66], [32, 32, 32, 34], [31, 1, 98], [129, 1]]
)
HEADS, GROUPS, DIM = (3, 1, 64) if INTERPRETED else (6, 2, 64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1)


@all_backends
@all_dtypes
@pytest.mark.parametrize(("inputs", "outputs"), [(576, 192), (201, 40), (1536, 64)])
def test_linear(name: str, dtype: torch.dtype, inputs: int, outputs: int) -> None:
    kernels = backend(name)
    x = torch.randn(ROWS, inputs).to(dtype)
    weight = torch.randn(outputs, inputs).to(dtype) / 10
    packed = kernels.pack(weight)
    gated = kernels.pack(weight, gate=Gate.SWIGLU_OAI, bias_N=torch.randn(outputs))
    int8 = kernels.pack(weight, int8=True)
    whole, whole_gated, whole_int8 = (kernels.linear(x, each) for each in (packed, gated, int8))
    for rows in PARTS:
        start = (rows * 7) % (ROWS - rows)
        part = slice(start, start + rows)
        assert torch.equal(kernels.linear(x[part].contiguous(), packed), whole[part]), rows
        assert torch.equal(kernels.linear(x[part].contiguous(), gated), whole_gated[part]), rows
        assert torch.equal(kernels.linear(x[part].contiguous(), int8), whole_int8[part]), rows
    alone = backend(name, threads=1)
    assert torch.equal(alone.linear(x, packed), whole)


@all_backends
def test_the_test_would_notice(name: str) -> None:
    """A product that is summed in two parts, as a kernel that splits K for small batches would, differs somewhere."""
    kernels = backend(name)
    x, weight = torch.randn(ROWS, 576), torch.randn(192, 576) / 10
    whole = kernels.linear(x, kernels.pack(weight))
    upper, lower = (
        kernels.linear(x[:, part].contiguous(), kernels.pack(weight[:, part].contiguous()))
        for part in (slice(0, 200), slice(200, 576))
    )
    assert not torch.equal(upper + lower, whole)


@all_backends
@all_dtypes
def test_rms_norm_and_experts(name: str, dtype: torch.dtype) -> None:
    kernels = backend(name)
    x, gain = torch.randn(ROWS, 96).to(dtype), torch.randn(96).to(dtype)
    router = kernels.pack((torch.randn(8, 96) / 10).to(dtype))
    up = kernels.pack((torch.randn(8, 128, 96) / 10).to(dtype), gate=Gate.SILU)
    down = kernels.pack((torch.randn(8, 96, 64) / 10).to(dtype))

    def layer(rows_TD: Tensor) -> Tensor:
        normed = kernels.rms_norm(rows_TD, gain, 1e-5)
        routing = kernels.route(kernels.logits(normed, router), RoutingRule(2))
        return kernels.experts(normed, routing, up, down, rows_TD)

    whole = layer(x)
    for rows in (1, 5, 17, 35) if INTERPRETED else (1, 2, 3, 5, 8, 17, 40, 64):
        assert torch.equal(layer(x[rows : 2 * rows].contiguous()), whole[rows : 2 * rows]), rows


def attend(
    kernels: Kernels, qkv: Tensor, chunks: list[int], table: list[int], blocks: int, rule: AttentionRule
) -> Tensor:
    """One sequence in chunks, each beside another sequence, over blocks that hold what they held before."""
    _, cache = kernels.new_cache(2, blocks, GROUPS, DIM, qkv.dtype)
    cache.keys_BGX.copy_(torch.randn(cache.keys_BGX.shape))
    cache.values_BGX.copy_(torch.randn(cache.values_BGX.shape))
    other = [index for index in range(blocks) if index not in table]
    outs, done = [], 0
    for rows in chunks:
        beside = torch.randn(rows % 5 + 1, qkv.shape[1]).to(qkv.dtype)
        parts = [SequenceRows(0, len(beside), 0, other), SequenceRows(len(beside), rows, done, table)]
        both = torch.cat((beside, qkv[done : done + rows]))
        positions = torch.cat((torch.arange(len(beside)), torch.arange(done, done + rows)))
        cos, sin = rotary_tables(positions, inverse_frequencies(DIM, 10000.0))
        step = kernels.attention_step(parts)
        kernels.write_cache(step, both, HEADS, cos, sin, cache)
        outs.append(kernels.attention(step, both, HEADS, cache, rule)[len(beside) :])
        done += rows
    return torch.cat(outs)


@all_backends
@all_dtypes
@pytest.mark.parametrize(
    "rule",
    [
        AttentionRule(DIM**-0.5),
        AttentionRule(DIM**-0.5, window=33, softcap=5.0),
        AttentionRule(DIM**-0.5, window=7, sinks_H=torch.linspace(-1, 1, HEADS)),
    ],
    ids=["plain", "window-softcap", "window-sinks"],
)
def test_attention(name: str, dtype: torch.dtype, rule: AttentionRule) -> None:
    kernels = backend(name)
    qkv = torch.randn(ROWS, (HEADS + 2 * GROUPS) * DIM).to(dtype)
    whole = attend(kernels, qkv, [ROWS], [0, 1, 2, 3, 4], 6, rule)
    for chunks in CHUNKS:
        assert torch.equal(attend(kernels, qkv, chunks, [5, 3, 0, 6, 2], 8, rule), whole), chunks
    alone = backend(name, threads=1)
    assert torch.equal(attend(alone, qkv, [64, ROWS - 64], [1, 0, 3, 2, 5], 7, rule), whole)
