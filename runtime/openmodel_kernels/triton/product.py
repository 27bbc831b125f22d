"""A tile of a matrix product and what is done with it before it is stored.

Every element is summed over K in steps of one size, from the first to the last, in one float32 accumulator, whatever
tile the element's row lies in: a tile's rows do not meet. Knows neither weights nor experts.
M rows and N columns of a tile, K the dimension that is summed over.
"""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl  # type: ignore[import-untyped]

from openmodel_kernels.interface import Gate
from openmodel_kernels.triton.jit import device_function, dot

# One shape a dtype, for one row as for thousands: 64 rows are the least that Hopper's own matrix instruction takes, and
# with few rows the time goes into reading the weight whatever the tile. Chosen on paper, not measured.
_HALF = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4}
_FULL = {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2}
# Numbers of eight bits are widened on their way, which takes registers.
_FULL_INT8 = _FULL | {"BLOCK_N": 32}


def tile_of(dtype: torch.dtype, *, int8: bool) -> dict[str, Any]:
    """The tile of a product with activations of this dtype."""
    if dtype != torch.float32:
        return _HALF
    return _FULL_INT8 if int8 else _FULL


# e to the power of it is still a number.
_LARGE = tl.constexpr(80.0)
# How a tile's halves are joined, for the kernels; 0 is not at all.
GATES = {None: 0, Gate.SILU: 1, Gate.GELU_TANH: 2, Gate.SWIGLU_OAI: 3}


@device_function
def join_halves(gate_MN: tl.tensor, up_MN: tl.tensor, GATE: tl.constexpr) -> tl.tensor:
    """The two halves of a gated product, by the number of GATES."""
    if GATE == 1:
        return gate_MN / (1.0 + tl.exp(-gate_MN)) * up_MN
    if GATE == 2:
        # gelu(x) = x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is its tanh form.
        inner_MN = 1.5957691216057308 * (gate_MN + 0.044715 * gate_MN * gate_MN * gate_MN)
        return gate_MN / (1.0 + tl.exp(-tl.maximum(inner_MN, -_LARGE))) * up_MN
    gate_MN = tl.minimum(gate_MN, 7.0)
    up_MN = tl.minimum(tl.maximum(up_MN, -7.0), 7.0)
    return gate_MN / (1.0 + tl.exp(-1.702 * gate_MN)) * (up_MN + 1.0)


@device_function
def place_tile(rows: tl.tensor, columns: tl.tensor, GROUP: tl.constexpr) -> tl.tensor:
    """Tile row and tile column of this program: a group of tile rows, column after column, for the sake of the L2."""
    program = tl.program_id(0)
    first = program // (GROUP * columns) * GROUP
    height = tl.minimum(rows - first, GROUP)
    within = program % (GROUP * columns)
    return first + within % height, within // height


@device_function
def load_weight(w_ptr: tl.tensor, mask: tl.tensor, dtype: tl.constexpr, INT8: tl.constexpr) -> tl.tensor:
    """A tile of the weight in the dtype that it is multiplied in."""
    w = tl.load(w_ptr, mask=mask, other=0)
    if INT8:
        # Whole numbers, which every dtype holds; by float32, for the interpreter makes no brain floats of them.
        w = w.to(tl.float32).to(dtype)
    return w


@device_function
def multiply_tile(  # noqa: PLR0913
    x_ptr: tl.tensor,
    row_M: tl.tensor,
    has_row_M: tl.tensor,
    w_ptr: tl.tensor,
    column_N: tl.tensor,
    has_column_N: tl.tensor,
    bias_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    columns: tl.tensor,
    up_offset: tl.tensor,
    inner: tl.tensor,
    GATE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    EVEN_K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> tl.tensor:
    """Float32 sums (M, N) of rows of x times rows of the weight, with bias; gates' ups lie `up_offset` on."""
    k_K = tl.arange(0, BLOCK_K)
    x_MK = x_ptr + row_M.to(tl.int64)[:, None] * inner + k_K[None, :]
    w_KN = w_ptr + column_N.to(tl.int64)[None, :] * inner + k_K[:, None]
    sums_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    ups_MN = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, inner, BLOCK_K):
        if EVEN_K:
            x_mask = has_row_M[:, None]
            w_mask = has_column_N[None, :]
        else:
            x_mask = has_row_M[:, None] & (start + k_K < inner)[None, :]
            w_mask = has_column_N[None, :] & (start + k_K < inner)[:, None]
        x = tl.load(x_MK + start, mask=x_mask, other=0.0)
        sums_MN = dot(x, load_weight(w_KN + start, w_mask, x.dtype, HAS_SCALE), sums_MN)
        if GATE:
            ups_MN = dot(x, load_weight(w_KN + up_offset + start, w_mask, x.dtype, HAS_SCALE), ups_MN)
    if HAS_SCALE:
        sums_MN *= tl.load(scale_ptr + column_N, mask=has_column_N, other=0.0)[None, :]
        if GATE:
            ups_MN *= tl.load(scale_ptr + columns + column_N, mask=has_column_N, other=0.0)[None, :]
    if HAS_BIAS:
        sums_MN += tl.load(bias_ptr + column_N, mask=has_column_N, other=0.0)[None, :]
    if GATE:
        if HAS_BIAS:
            ups_MN += tl.load(bias_ptr + columns + column_N, mask=has_column_N, other=0.0)[None, :]
        sums_MN = join_halves(sums_MN, ups_MN, GATE)
    return sums_MN
