"""Rotation of queries and keys by their position, and the paged cache's new tokens.

A block lies as (G, S, C): G key/value heads, S tokens, C head dimension, so that a head's keys and values are read row
after row. H query heads, N heads of a program, R pairs of a head that are rotated.
"""

from __future__ import annotations

import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.interface import LayerCache
from openmodel_kernels.triton.jit import device_function, kernel, launch, power_of_two, tiles
from openmodel_kernels.triton.step import BLOCK_TOKENS, STEP_ARGUMENTS, TritonStep

_HEADS_PER_PROGRAM = 8


@device_function
def store_cached(
    keys_ptr: tl.tensor,
    values_ptr: tl.tensor,
    key_head_N: tl.tensor,
    c_C: tl.tensor,
    x_NC: tl.tensor,
    inside_NC: tl.tensor,
    GROUPS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
) -> None:
    """Writes the elements c of those heads that are keys or values to a token's place in its block."""
    is_key_N = (key_head_N >= 0) & (key_head_N < GROUPS)
    is_value_N = key_head_N >= GROUPS
    tl.store(keys_ptr + key_head_N[:, None] * HEAD_SIZE + c_C[None, :], x_NC, mask=inside_NC & is_key_N[:, None])
    value_head_N = key_head_N - GROUPS
    tl.store(values_ptr + value_head_N[:, None] * HEAD_SIZE + c_C[None, :], x_NC, mask=inside_NC & is_value_N[:, None])


@kernel(*STEP_ARGUMENTS)
def write_cache_kernel(  # noqa: PLR0913
    qkv_ptr: tl.tensor,
    cos_ptr: tl.tensor,
    sin_ptr: tl.tensor,
    keys_ptr: tl.tensor,
    values_ptr: tl.tensor,
    step_ptr: tl.tensor,
    owner_ptr: tl.tensor,
    tables_ptr: tl.tensor,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    DIM: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_REST: tl.constexpr,
) -> None:
    """Some heads of one row. The thread that writes one of a pair has read both before."""
    row = tl.program_id(0)
    sequence_ptr = step_ptr + tl.load(owner_ptr + row) * 4
    position = tl.load(sequence_ptr + 2) + row - tl.load(sequence_ptr)
    block = tl.load(tables_ptr + tl.load(sequence_ptr + 3) + position // BLOCK_TOKENS).to(tl.int64)
    place = (block * GROUPS * BLOCK_TOKENS + position % BLOCK_TOKENS) * DIM
    keys_ptr += place
    values_ptr += place

    head_N = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_head_N = head_N < HEADS + 2 * GROUPS
    turned_N = head_N < HEADS + GROUPS
    x_N = qkv_ptr + row.to(tl.int64) * ((HEADS + 2 * GROUPS) * DIM) + head_N * DIM

    r_R = tl.arange(0, BLOCK_R)
    inside_NR = is_head_N[:, None] & (r_R < HALF)[None, :]
    first_NR = tl.load(x_N[:, None] + r_R[None, :], mask=inside_NR, other=0.0)
    second_NR = tl.load(x_N[:, None] + r_R[None, :] + HALF, mask=inside_NR, other=0.0)
    cos_1R = tl.load(cos_ptr + row * HALF + r_R, mask=r_R < HALF, other=0.0)[None, :]
    sin_1R = tl.load(sin_ptr + row * HALF + r_R, mask=r_R < HALF, other=0.0)[None, :]
    a_NR, b_NR = first_NR.to(tl.float32), second_NR.to(tl.float32)
    first_NR = tl.where(turned_N[:, None], (a_NR * cos_1R - b_NR * sin_1R).to(first_NR.dtype), first_NR)
    second_NR = tl.where(turned_N[:, None], (b_NR * cos_1R + a_NR * sin_1R).to(second_NR.dtype), second_NR)
    tl.store(x_N[:, None] + r_R[None, :], first_NR, mask=inside_NR & turned_N[:, None])
    tl.store(x_N[:, None] + r_R[None, :] + HALF, second_NR, mask=inside_NR & turned_N[:, None])
    store_cached(keys_ptr, values_ptr, head_N - HEADS, r_R, first_NR, inside_NR, GROUPS, BLOCK_TOKENS * DIM)
    store_cached(keys_ptr, values_ptr, head_N - HEADS, r_R + HALF, second_NR, inside_NR, GROUPS, BLOCK_TOKENS * DIM)
    if 2 * HALF < DIM:
        c_C = 2 * HALF + tl.arange(0, BLOCK_REST)
        inside_NC = is_head_N[:, None] & (c_C < DIM)[None, :]
        rest_NC = tl.load(x_N[:, None] + c_C[None, :], mask=inside_NC, other=0.0)
        store_cached(keys_ptr, values_ptr, head_N - HEADS, c_C, rest_NC, inside_NC, GROUPS, BLOCK_TOKENS * DIM)


def write_cache(
    step: TritonStep, qkv_TX: Tensor, heads: int, cos_TC: Tensor, sin_TC: Tensor, cache: LayerCache
) -> None:
    """Rotates in place and writes, each row by itself."""
    if not qkv_TX.is_contiguous():
        raise ValueError("queries, keys and values are rotated in place: they must be contiguous")
    groups, dim = cache.keys_BGX.shape[1], cache.keys_BGX.shape[2] // BLOCK_TOKENS
    half = cos_TC.shape[1]
    launch(
        write_cache_kernel,
        (step.rows, tiles(heads + 2 * groups, _HEADS_PER_PROGRAM)),
        qkv_TX,
        cos_TC.contiguous(),
        sin_TC.contiguous(),
        cache.keys_BGX,
        cache.values_BGX,
        step.sequences_B4,
        step.owners_T,
        step.tables_X,
        HEADS=heads,
        GROUPS=groups,
        DIM=dim,
        HALF=half,
        BLOCK_TOKENS=BLOCK_TOKENS,
        BLOCK_N=_HEADS_PER_PROGRAM,
        BLOCK_R=power_of_two(half),
        BLOCK_REST=power_of_two(dim - 2 * half),
        num_warps=2,
    )
