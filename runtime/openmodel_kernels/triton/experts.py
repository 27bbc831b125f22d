"""The experts' products, all experts in one launch, and the sum of each token's slots.

The host knows how many slots there are and not whose they are, so it launches as many tiles as there can be; a program
finds its expert among the offsets, which stay on the device. T tokens, K experts a token, R = T * K slots in the order
of experts, M rows and N columns of a tile.
"""

from __future__ import annotations

import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.triton.jit import device_function, kernel, launch, power_of_two, tiles, whole
from openmodel_kernels.triton.product import GATES, multiply_tile, place_tile, tile_of
from openmodel_kernels.triton.routing import SortedSlots
from openmodel_kernels.triton.weight import DeviceWeight, check_input

_COMBINE_BLOCK = 1024


@device_function
def find_expert(
    offsets_ptr: tl.tensor, tile_row: tl.tensor, EXPERTS: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_M: tl.constexpr
) -> tl.tensor:
    """The expert of a tile row and the tile's first slot; EXPERTS where there is no such tile."""
    e_E = tl.arange(0, BLOCK_E)
    begin_E = tl.load(offsets_ptr + e_E, mask=e_E < EXPERTS, other=0)
    end_E = tl.load(offsets_ptr + e_E + 1, mask=e_E < EXPERTS, other=0)
    tiles_E = tl.cdiv(end_E - begin_E, BLOCK_M)
    last_E = tl.cumsum(tiles_E, 0)
    expert = tl.sum(((last_E <= tile_row) & (e_E < EXPERTS)).to(tl.int32))
    before = tl.sum(tl.where(e_E < expert, tiles_E, 0))
    begin = tl.sum(tl.where(e_E == expert, begin_E, 0))
    return expert, begin + (tile_row - before) * BLOCK_M


@kernel("tile_rows")
def experts_kernel(  # noqa: PLR0913
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    offsets_ptr: tl.tensor,
    order_ptr: tl.tensor,
    out_ptr: tl.tensor,
    tile_rows: tl.tensor,
    columns: tl.tensor,
    inner: tl.tensor,
    up_offset: tl.tensor,
    expert_stride: tl.tensor,
    row_stride: tl.tensor,
    TOP_K: tl.constexpr,
    EXPERTS: tl.constexpr,
    BLOCK_E: tl.constexpr,
    GATE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """One tile of one expert. TOP_K > 0: x are the tokens, and slots pick them; otherwise x are the slots."""
    tile_row, tile_column = place_tile(tile_rows, tl.cdiv(columns, BLOCK_N), 8)
    expert, first = find_expert(offsets_ptr, tile_row, EXPERTS, BLOCK_E, BLOCK_M)
    if expert >= EXPERTS:
        return
    slot_M = first + tl.arange(0, BLOCK_M)
    has_row_M = slot_M < tl.load(offsets_ptr + expert + 1)
    row_M = tl.load(order_ptr + slot_M, mask=has_row_M, other=0) // TOP_K if TOP_K > 0 else slot_M
    column_N = tile_column * BLOCK_N + tl.arange(0, BLOCK_N)
    has_column_N = column_N < columns
    sums_MN = multiply_tile(
        x_ptr, row_M, has_row_M, w_ptr + expert.to(tl.int64) * expert_stride, column_N, has_column_N,
        bias_ptr + expert * row_stride, scale_ptr + expert * row_stride, columns, up_offset, inner,
        GATE, HAS_BIAS, HAS_SCALE, EVEN_K, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    at_MN = slot_M.to(tl.int64)[:, None] * columns + column_N[None, :]
    tl.store(out_ptr + at_MN, sums_MN.to(out_ptr.dtype.element_ty), mask=has_row_M[:, None] & has_column_N[None, :])


@kernel()
def combine_kernel(
    slots_ptr: tl.tensor,
    places_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    residual_ptr: tl.tensor,
    out_ptr: tl.tensor,
    columns: tl.tensor,
    TOP_K: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """A token's residual, then its slots in their order, the best expert first."""
    token = tl.program_id(0)
    d_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside_D = d_D < columns
    at_D = token.to(tl.int64) * columns + d_D
    if HAS_RESIDUAL:
        sum_D = tl.load(residual_ptr + at_D, mask=inside_D, other=0.0).to(tl.float32)
    else:
        sum_D = tl.zeros((BLOCK_D,), tl.float32)
    for k in tl.static_range(TOP_K):
        place = tl.load(places_ptr + token * TOP_K + k).to(tl.int64)
        weight = tl.load(weights_ptr + token * TOP_K + k)
        sum_D += tl.load(slots_ptr + place * columns + d_D, mask=inside_D, other=0.0).to(tl.float32) * weight
    tl.store(out_ptr + at_D, sum_D.to(out_ptr.dtype.element_ty), mask=inside_D)


def multiply_experts(x_TD: Tensor, weight: DeviceWeight, slots: SortedSlots, *, gather: bool) -> Tensor:
    """Each slot's row times its expert's weight, (R, N).

    Args:
        x_TD: the tokens when `gather`, else the slots.
        weight: of all experts.
        slots: the order.
        gather: pick each slot's token out of x.
    """
    check_input(x_TD, weight)
    count, (experts, top_k) = slots.order_R.shape[0], (weight.weight.shape[0], slots.places_TK.shape[1])
    tile = tile_of(x_TD.dtype, int8=weight.scale is not None)
    # Every expert with slots begins a tile of its own.
    tile_rows = count // tile["BLOCK_M"] + min(experts, count)
    out_RN = x_TD.new_empty((count, weight.columns))
    launch(
        experts_kernel,
        (tile_rows * tiles(weight.columns, tile["BLOCK_N"]),),
        whole(x_TD),
        weight.weight,
        weight.bias_pointer,
        weight.scale_pointer,
        slots.offsets_E,
        slots.order_R,
        out_RN,
        tile_rows,
        weight.columns,
        weight.inner,
        weight.up_offset,
        weight.weight.stride(0),
        weight.weight.shape[-2],
        TOP_K=top_k if gather else 0,
        EXPERTS=experts,
        BLOCK_E=power_of_two(experts),
        GATE=GATES[weight.gate],
        HAS_BIAS=weight.bias is not None,
        HAS_SCALE=weight.scale is not None,
        EVEN_K=weight.inner % tile["BLOCK_K"] == 0,
        **tile,
    )
    return out_RN


def combine(slots_RD: Tensor, places_TK: Tensor, weights_TK: Tensor, residual_TD: Tensor | None) -> Tensor:
    """The residual plus the weighted sum of each token's slots, in float32, rounded once."""
    tokens, top_k = weights_TK.shape
    columns = slots_RD.shape[1]
    out_TD = slots_RD.new_empty((tokens, columns))
    launch(
        combine_kernel,
        (tokens, tiles(columns, _COMBINE_BLOCK)),
        slots_RD,
        places_TK.contiguous(),
        weights_TK.contiguous(),
        out_TD if residual_TD is None else whole(residual_TD),
        out_TD,
        columns,
        TOP_K=top_k,
        HAS_RESIDUAL=residual_TD is not None,
        BLOCK_D=_COMBINE_BLOCK,
        num_warps=4,
    )
    return out_TD
