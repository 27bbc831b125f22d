"""Normalization. T rows of a step, D their length."""

from __future__ import annotations

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.triton.jit import kernel, launch, power_of_two, whole

_ELEMENTS_PER_WARP = 512


@kernel()
def rms_norm_kernel(
    x_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    out_ptr: tl.tensor,
    columns: tl.tensor,
    eps: tl.tensor,
    BLOCK_D: tl.constexpr,
) -> None:
    """One row."""
    row = tl.program_id(0).to(tl.int64) * columns
    d_D = tl.arange(0, BLOCK_D)
    inside_D = d_D < columns
    x_D = tl.load(x_ptr + row + d_D, mask=inside_D, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x_D * x_D) / columns + eps)
    weight_D = tl.load(weight_ptr + d_D, mask=inside_D, other=0.0).to(tl.float32)
    tl.store(out_ptr + row + d_D, (weight_D * (x_D * scale)).to(out_ptr.dtype.element_ty), mask=inside_D)


def rms_norm(x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """Each row by its root mean square, in float32, rounded once."""
    rows, columns = x_TD.shape
    if weight_D.shape != (columns,):
        raise ValueError(f"x has {columns} columns, the weight {weight_D.numel()}")
    out_TD = torch.empty_like(x_TD, memory_format=torch.contiguous_format)
    block = power_of_two(columns)
    warps = min(power_of_two(max(block // _ELEMENTS_PER_WARP, 1)), 16)
    launch(rms_norm_kernel, (rows,), whole(x_TD), whole(weight_D), out_TD, columns, eps, BLOCK_D=block, num_warps=warps)
    return out_TD


@kernel()
def norm_heads_kernel(
    qkv_ptr: tl.tensor,
    q_weight_ptr: tl.tensor,
    k_weight_ptr: tl.tensor,
    eps: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> None:
    """One head of one row, in place."""
    head = tl.program_id(1)
    at = tl.program_id(0).to(tl.int64) * WIDTH + head * DIM
    c_C = tl.arange(0, BLOCK_C)
    inside_C = c_C < DIM
    x_C = tl.load(qkv_ptr + at + c_C, mask=inside_C, other=0.0)
    x32_C = x_C.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x32_C * x32_C) / DIM + eps)
    if head < HEADS:
        weight_C = tl.load(q_weight_ptr + c_C, mask=inside_C, other=0.0).to(tl.float32)
    else:
        weight_C = tl.load(k_weight_ptr + c_C, mask=inside_C, other=0.0).to(tl.float32)
    tl.store(qkv_ptr + at + c_C, (weight_C * (x32_C * scale)).to(x_C.dtype), mask=inside_C)


def norm_heads(qkv_TX: Tensor, heads: int, q_weight_C: Tensor, k_weight_C: Tensor, eps: float) -> None:
    """Queries' and keys' heads by their root mean square, in place."""
    if not qkv_TX.is_contiguous():
        raise ValueError("queries, keys and values are normalized in place: they must be contiguous")
    rows, width = qkv_TX.shape
    dim = q_weight_C.shape[0]
    turned = (width // dim + heads) // 2
    launch(
        norm_heads_kernel,
        (rows, turned),
        qkv_TX,
        whole(q_weight_C),
        whole(k_weight_C),
        eps,
        HEADS=heads,
        WIDTH=width,
        DIM=dim,
        BLOCK_C=power_of_two(dim),
        num_warps=1,
    )
