"""Linear layers: one product for one row as for thousands. M rows and N columns of a tile, T rows of a step."""

from __future__ import annotations

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.triton.jit import kernel, launch, tiles, whole
from openmodel_kernels.triton.product import GATES, multiply_tile, place_tile, tile_of
from openmodel_kernels.triton.weight import DeviceWeight, check_input


@kernel("rows")
def linear_kernel(  # noqa: PLR0913
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    residual_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    inner: tl.tensor,
    up_offset: tl.tensor,
    HAS_RESIDUAL: tl.constexpr,
    GATE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """One tile of x times the weight's transpose."""
    tile_row, tile_column = place_tile(tl.cdiv(rows, BLOCK_M), tl.cdiv(columns, BLOCK_N), 8)
    row_M = tile_row * BLOCK_M + tl.arange(0, BLOCK_M)
    column_N = tile_column * BLOCK_N + tl.arange(0, BLOCK_N)
    sums_MN = multiply_tile(
        x_ptr, row_M, row_M < rows, w_ptr, column_N, column_N < columns, bias_ptr, scale_ptr, columns, up_offset,
        inner, GATE, HAS_BIAS, HAS_SCALE, EVEN_K, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    at_MN = row_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    inside_MN = (row_M < rows)[:, None] & (column_N < columns)[None, :]
    if HAS_RESIDUAL:
        sums_MN = tl.load(residual_ptr + at_MN, mask=inside_MN, other=0.0).to(tl.float32) + sums_MN
    tl.store(out_ptr + at_MN, sums_MN.to(out_ptr.dtype.element_ty), mask=inside_MN)


def linear(x_TD: Tensor, weight: DeviceWeight, residual_TN: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The product in the dtype, gated or plus the residual."""
    check_input(x_TD, weight)
    out_TN = x_TD.new_empty((x_TD.shape[0], weight.columns), dtype=dtype)
    if residual_TN is not None and residual_TN.shape != out_TN.shape:
        raise ValueError("residual must have the output's shape")
    tile = tile_of(x_TD.dtype, int8=weight.scale is not None)
    launch(
        linear_kernel,
        (tiles(x_TD.shape[0], tile["BLOCK_M"]) * tiles(weight.columns, tile["BLOCK_N"]),),
        whole(x_TD),
        weight.weight,
        weight.bias_pointer,
        weight.scale_pointer,
        out_TN if residual_TN is None else whole(residual_TN),
        out_TN,
        x_TD.shape[0],
        weight.columns,
        weight.inner,
        weight.up_offset,
        HAS_RESIDUAL=residual_TN is not None,
        GATE=GATES[weight.gate],
        HAS_BIAS=weight.bias is not None,
        HAS_SCALE=weight.scale is not None,
        EVEN_K=weight.inner % tile["BLOCK_K"] == 0,
        **tile,
    )
    return out_TN
