"""Attention of every backend beside the plainest way to write it, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openmodel_kernels.interface import AttentionRule, SequenceRows
from openmodel_kernels.rotary import inverse_frequencies, rotary_tables

from .backends import INTERPRETED, all_backends, all_dtypes, backend
from .plain import close

# Rows of three sequences in three steps; Triton's interpreter is slow.
STEPS = ([12, 1, 40], [1, 1, 2], [2, 3, 24]) if INTERPRETED else ([70, 1, 31], [1, 1, 2], [5, 30, 90])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def plain_attention(q_NHC: Tensor, k_SGC: Tensor, v_SGC: Tensor, context: int, rule: AttentionRule) -> Tensor:
    out = torch.empty_like(q_NHC)
    for n in range(q_NHC.shape[0]):
        for h in range(q_NHC.shape[1]):
            g = h * k_SGC.shape[1] // q_NHC.shape[1]
            end = context + n + 1
            seen = slice(0 if rule.window is None else max(0, end - rule.window), end)
            scores = k_SGC[seen, g] @ q_NHC[n, h] * rule.scale
            if rule.softcap is not None:
                scores = rule.softcap * torch.tanh(scores / rule.softcap)
            if rule.sinks_H is not None:
                scores = torch.cat((scores, rule.sinks_H[h : h + 1].double()))
            weights = torch.softmax(scores, dim=0)
            out[n, h] = weights[: end - seen.start] @ v_SGC[seen, g]
    return out


def plain_rotary(x_NHC: Tensor, positions_N: Tensor) -> Tensor:
    half = x_NHC.shape[-1] // 2
    angles = positions_N.double()[:, None] * inverse_frequencies(2 * half, 10000.0).double()
    turned = torch.complex(x_NHC[..., :half], x_NHC[..., half:]) * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((turned.real, turned.imag), -1)


@all_backends
@all_dtypes
@pytest.mark.parametrize(("heads", "groups", "dim"), [(6, 2, 64), (4, 4, 32), (8, 1, 48)])
def test_attention_over_a_paged_cache(name: str, dtype: torch.dtype, heads: int, groups: int, dim: int) -> None:
    _attend_and_compare(name, dtype, heads, groups, dim, AttentionRule(0.2))


@all_backends
@all_dtypes
@pytest.mark.parametrize(
    "rule",
    [
        AttentionRule(0.2, window=1),
        AttentionRule(0.2, window=40),
        AttentionRule(0.3, softcap=2.0),
        AttentionRule(0.2, sinks_H=torch.linspace(-2, 6, 6)),
        AttentionRule(0.3, window=20, softcap=5.0, sinks_H=torch.linspace(-2, 6, 6)),
    ],
    ids=["window=1", "window=40", "softcap", "sinks", "all"],
)
def test_windows_caps_and_sinks(name: str, dtype: torch.dtype, rule: AttentionRule) -> None:
    _attend_and_compare(name, dtype, 6, 2, 32, rule)


def _attend_and_compare(name: str, dtype: torch.dtype, heads: int, groups: int, dim: int, rule: AttentionRule) -> None:
    kernels = backend(name)
    _, cache = kernels.new_cache(2, 12, groups, dim, dtype)
    # What was in a block before must not matter, be it no number at all.
    cache.keys_BGX.fill_(float("nan"))
    cache.values_BGX.fill_(float("nan"))
    tables = [[7, 2, 9], [4], [1, 0, 3, 11]]
    history: list[list[Tensor]] = [[], [], []]
    cached = [0, 0, 0]
    for step_rows in STEPS:
        qkv = torch.randn(sum(step_rows), (heads + 2 * groups) * dim).to(dtype)
        parts, start = [], 0
        for table, count, context in zip(tables, step_rows, cached, strict=True):
            parts.append(SequenceRows(start, count, context, table))
            start += count
        positions = torch.cat([torch.arange(part.context, part.context + part.rows) for part in parts])
        plain = qkv.double().view(len(qkv), -1, dim)
        plain = torch.cat((plain_rotary(plain[:, : heads + groups], positions), plain[:, heads + groups :]), dim=1)
        cos, sin = rotary_tables(positions, inverse_frequencies(dim, 10000.0))
        step = kernels.attention_step(parts)
        kernels.write_cache(step, qkv, heads, cos, sin, cache)
        out = kernels.attention(step, qkv, heads, cache, rule).view(len(qkv), heads, dim)
        for index, part in enumerate(parts):
            rows = slice(part.row, part.row + part.rows)
            history[index].append(plain[rows, heads:])
            past = torch.cat(history[index])
            expected = plain_attention(plain[rows, :heads], past[:, :groups], past[:, groups:], part.context, rule)
            assert close(out[rows], expected, dtype)
            cached[index] += part.rows


def test_blocks_and_rows_that_are_not_there_are_refused() -> None:
    from .backends import CAPABILITIES

    kernels = backend(CAPABILITIES[0])
    (cache,) = kernels.new_cache(1, 2, 1, 32, torch.float32)
    qkv, cos = torch.randn(1, 3 * 32), torch.ones(1, 16)
    for part, words in (
        (SequenceRows(0, 1, 0, [2]), "block 2 of 2"),
        (SequenceRows(0, 1, 0, [-1]), "block -1 is none"),
        (SequenceRows(1, 1, 0, [0]), "rows beyond qkv"),
    ):
        step = kernels.attention_step([part])
        with pytest.raises(RuntimeError, match=words):
            kernels.write_cache(step, qkv, 1, cos, cos, cache)
        with pytest.raises(RuntimeError, match=words):
            kernels.attention(step, qkv, 1, cache, AttentionRule(1.0))
    with pytest.raises(RuntimeError, match="sequence 0 lacks blocks"):
        kernels.attention_step([SequenceRows(0, 33, 0, [0])])
