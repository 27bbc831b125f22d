"""Causal attention over a paged cache, tile by tile with a running softmax (Milakov and Gimelshein, 2018).

A tile of queries holds rows and heads that read one key/value head: rows times the heads of a group, so that a single
row of decoding fills a tile as far as its group goes. Tiles of keys begin at fixed tokens and come in order, and a row
that sees nothing of a tile leaves it as it came: what a row is added up from does not depend on its neighbours.
M (row, head) pairs and S tokens of a tile, C head dimension.
"""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.interface import AttentionRule, LayerCache
from openmodel_kernels.triton.jit import dot, kernel, launch, power_of_two
from openmodel_kernels.triton.step import BLOCK_TOKENS, STEP_ARGUMENTS, TritonStep, find_sequence

MAX_HEAD_DIM = 256
_LOG2_E = 1.4426950408889634
# The score of a token that is not seen: finite, so that a row which sees nothing of its first tile weighs it with ones
# and, at the first tile that it sees, multiplies all that with 0.
_HIDDEN = tl.constexpr(-1e30)
# e to the power of it is still a number.
_LARGE = tl.constexpr(80.0)
# One shape a dtype and head, for one row as for thousands (product.py says why 64); what fits into the registers.
_HALF = {"BLOCK_M": 64, "BLOCK_S": 64, "num_warps": 4, "num_stages": 3}
_HALF_WIDE = {"BLOCK_M": 64, "BLOCK_S": 64, "num_warps": 8, "num_stages": 2}
_FULL = {"BLOCK_M": 16, "BLOCK_S": 16, "num_warps": 4, "num_stages": 2}
# The matrix instructions sum over no fewer elements.
_LEAST_BLOCK_C = 16


def _tile(dtype: torch.dtype, block_c: int) -> dict[str, Any]:
    if dtype == torch.float32:
        return _FULL
    return _HALF if block_c <= MAX_HEAD_DIM // 2 else _HALF_WIDE


@kernel(*STEP_ARGUMENTS)
def attention_kernel(  # noqa: PLR0913
    qkv_ptr: tl.tensor,
    keys_ptr: tl.tensor,
    values_ptr: tl.tensor,
    out_ptr: tl.tensor,
    step_ptr: tl.tensor,
    tables_ptr: tl.tensor,
    sequences: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    sinks_ptr: tl.tensor,
    GROUPS: tl.constexpr,
    RATIO: tl.constexpr,
    DIM: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> None:
    """One tile of queries of one sequence and one key/value head. Scores, softcap and sinks are for powers of two."""
    group = tl.program_id(1)
    sequence, tile = find_sequence(step_ptr, sequences, tl.program_id(0), RATIO, BLOCK_M)
    sequence_ptr = step_ptr + sequence * 4
    rows = tl.load(sequence_ptr + 1)
    if tile * BLOCK_M >= rows * RATIO:
        return
    context = tl.load(sequence_ptr + 2)
    tables_ptr += tl.load(sequence_ptr + 3)

    m_M = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    row_M = m_M // RATIO
    is_row_M = row_M < rows
    position_M = context + tl.minimum(row_M, rows - 1)
    last = context + tl.minimum((tile * BLOCK_M + BLOCK_M - 1) // RATIO, rows - 1)
    c_C = tl.arange(0, BLOCK_C)
    has_c_C = c_C < DIM
    row_at_M = (tl.load(sequence_ptr) + row_M).to(tl.int64)
    head_M = group * RATIO + m_M % RATIO
    q_at_M = row_at_M * ((RATIO + 2) * GROUPS * DIM) + head_M * DIM
    q_MC = tl.load(
        qkv_ptr + q_at_M[:, None] + c_C[None, :], mask=is_row_M[:, None] & has_c_C[None, :], other=0.0
    )  # fmt: skip

    out_MC = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    total_M = tl.zeros((BLOCK_M,), tl.float32)
    top_M = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    if HAS_SINKS:
        # What a row has seen before its first tile: a share of the sum, and no value.
        top_M = tl.load(sinks_ptr + head_M)
        total_M += 1.0
    first = 0
    if WINDOW:
        first = tl.maximum(context + tile * BLOCK_M // RATIO + 1 - WINDOW, 0) // BLOCK_S * BLOCK_S
    for start in range(first, last + 1, BLOCK_S):
        token_S = start + tl.arange(0, BLOCK_S)
        # Beyond lies what was never written, or written for somebody else: 0 times a NaN would be one.
        seen_S = token_S <= last
        block_S = tl.load(tables_ptr + token_S // BLOCK_TOKENS, mask=seen_S, other=0).to(tl.int64)
        at_S = ((block_S * GROUPS + group) * BLOCK_TOKENS + token_S % BLOCK_TOKENS) * DIM
        keys_CS = tl.load(
            keys_ptr + at_S[None, :] + c_C[:, None], mask=seen_S[None, :] & has_c_C[:, None], other=0.0
        )  # fmt: skip
        scores_MS = dot(q_MC, keys_CS, tl.zeros((BLOCK_M, BLOCK_S), tl.float32)) * scale
        if HAS_SOFTCAP:
            scores_MS = softcap * (1.0 - 2.0 / (tl.exp(tl.minimum(2.0 * scores_MS, _LARGE)) + 1.0))
        scores_MS = tl.where(token_S[None, :] <= position_M[:, None], scores_MS, _HIDDEN)
        if WINDOW:
            scores_MS = tl.where(token_S[None, :] > position_M[:, None] - WINDOW, scores_MS, _HIDDEN)
        next_top_M = tl.maximum(top_M, tl.max(scores_MS, 1))
        weights_MS = tl.exp2(scores_MS - next_top_M[:, None])
        factor_M = tl.exp2(top_M - next_top_M)
        total_M = total_M * factor_M + tl.sum(weights_MS, 1)
        values_SC = tl.load(
            values_ptr + at_S[:, None] + c_C[None, :], mask=seen_S[:, None] & has_c_C[None, :], other=0.0
        )  # fmt: skip
        out_MC = dot(weights_MS.to(values_SC.dtype), values_SC, out_MC * factor_M[:, None])
        top_M = next_top_M

    out_at_M = row_at_M * (RATIO * GROUPS * DIM) + head_M * DIM
    tl.store(
        out_ptr + out_at_M[:, None] + c_C[None, :],
        (out_MC / total_M[:, None]).to(out_ptr.dtype.element_ty),
        mask=is_row_M[:, None] & has_c_C[None, :],
    )


def attention(step: TritonStep, qkv_TX: Tensor, heads: int, cache: LayerCache, rule: AttentionRule) -> Tensor:
    """All sequences and key/value heads in one launch, (T, H * C)."""
    groups, dim = cache.keys_BGX.shape[1], cache.keys_BGX.shape[2] // BLOCK_TOKENS
    ratio = heads // groups
    out_TX = qkv_TX.new_empty((qkv_TX.shape[0], heads * dim))
    block_c = max(power_of_two(dim), _LEAST_BLOCK_C)
    tile = _tile(qkv_TX.dtype, block_c)
    softcap = rule.softcap or 0.0
    launch(
        attention_kernel,
        (step.rows * ratio // tile["BLOCK_M"] + step.sequences if step.rows else 0, groups),
        qkv_TX.contiguous(),
        cache.keys_BGX,
        cache.values_BGX,
        out_TX,
        step.sequences_B4,
        step.tables_X,
        step.sequences,
        rule.scale / softcap if softcap else rule.scale * _LOG2_E,
        softcap * _LOG2_E,
        qkv_TX if rule.sinks_H is None else rule.sinks_H * _LOG2_E,
        GROUPS=groups,
        RATIO=ratio,
        DIM=dim,
        WINDOW=rule.window or 0,
        HAS_SOFTCAP=bool(softcap),
        HAS_SINKS=rule.sinks_H is not None,
        BLOCK_TOKENS=BLOCK_TOKENS,
        BLOCK_C=block_c,
        **tile,
    )
    return out_TX
