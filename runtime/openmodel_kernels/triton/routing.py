"""Which experts a token goes to, and its rows in the order of experts; nothing of it leaves the device.

T tokens, E experts, K experts a token, R = T * K slots: a slot is one token's row for one of its experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.interface import Routing
from openmodel_kernels.triton.jit import kernel, launch, power_of_two, whole

_SORT_BLOCK = 1024


@kernel()
def route_kernel(
    logits_ptr: tl.tensor,
    experts_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    experts: tl.tensor,
    TOP_K: tl.constexpr,
    RENORMALIZE: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr,
) -> None:
    """One token: softmax, and the best by turns; argmax takes the first of equals."""
    token = tl.program_id(0)
    e_E = tl.arange(0, BLOCK_E)
    k_K = tl.arange(0, BLOCK_K)
    logits_E = tl.load(logits_ptr + token * experts + e_E, mask=e_E < experts, other=float("-inf")).to(tl.float32)
    top = tl.max(logits_E)
    total = tl.sum(tl.exp(logits_E - top))
    chosen_K = tl.zeros((BLOCK_K,), tl.int32)
    weights_K = tl.zeros((BLOCK_K,), tl.float32)
    kept = 0.0
    for k in tl.static_range(TOP_K):
        best = tl.argmax(logits_E, 0)
        weight = tl.exp(tl.max(logits_E) - top) / total
        kept += weight
        chosen_K = tl.where(k_K == k, best, chosen_K)
        weights_K = tl.where(k_K == k, weight, weights_K)
        logits_E = tl.where(e_E == best, float("-inf"), logits_E)
    if RENORMALIZE:
        weights_K = weights_K / kept
    tl.store(experts_ptr + token * TOP_K + k_K, chosen_K, mask=k_K < TOP_K)
    tl.store(weights_ptr + token * TOP_K + k_K, weights_K, mask=k_K < TOP_K)


@kernel("slots")
def sort_kernel(
    experts_ptr: tl.tensor,
    order_ptr: tl.tensor,
    places_ptr: tl.tensor,
    offsets_ptr: tl.tensor,
    slots: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One expert: counts the slots of lower experts, then lays its own behind them. One program more marks the end."""
    expert = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    lower = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, slots, BLOCK):
        inside = start + lane < slots
        ids = tl.load(experts_ptr + start + lane, mask=inside, other=0)
        lower += (inside & (ids < expert)).to(tl.int32)
    place = tl.sum(lower)
    tl.store(offsets_ptr + expert, place)
    for start in range(0, slots, BLOCK):
        inside = start + lane < slots
        ids = tl.load(experts_ptr + start + lane, mask=inside, other=0)
        mine = inside & (ids == expert)
        at = place + tl.cumsum(mine.to(tl.int32), 0) - 1
        tl.store(order_ptr + at, start + lane, mask=mine)
        tl.store(places_ptr + start + lane, at, mask=mine)
        place += tl.sum(mine.to(tl.int32))


@dataclass(frozen=True, slots=True)
class SortedSlots:
    """The slots in the order of experts, all int32 on the device."""

    order_R: Tensor
    """Slot at each sorted place."""
    places_TK: Tensor
    """Sorted place of each slot."""
    offsets_E: Tensor
    """Sorted place at which each expert begins; one more, the end."""


def route(logits_TE: Tensor, top_k: int, *, renormalize: bool) -> Routing:
    """Softmax over all experts, and the best K; of equal logits the lower expert's."""
    tokens, experts = logits_TE.shape
    experts_TK = torch.empty((tokens, top_k), dtype=torch.int32, device=logits_TE.device)
    weights_TK = torch.empty((tokens, top_k), dtype=torch.float32, device=logits_TE.device)
    launch(
        route_kernel,
        (tokens,),
        whole(logits_TE),
        experts_TK,
        weights_TK,
        experts,
        TOP_K=top_k,
        RENORMALIZE=renormalize,
        BLOCK_K=power_of_two(top_k),
        BLOCK_E=power_of_two(experts),
        num_warps=1,
    )
    return Routing(experts_TK, weights_TK)


def sort_by_expert(experts_TK: Tensor, experts: int) -> SortedSlots:
    """A stable sort by counting."""
    order_R = torch.empty(experts_TK.numel(), dtype=torch.int32, device=experts_TK.device)
    places_TK = torch.empty_like(experts_TK)
    offsets_E = torch.empty(experts + 1, dtype=torch.int32, device=experts_TK.device)
    launch(
        sort_kernel,
        (experts + 1,),
        experts_TK.contiguous(),
        order_R,
        places_TK,
        offsets_E,
        experts_TK.numel(),
        BLOCK=_SORT_BLOCK,
        num_warps=4,
    )
    return SortedSlots(order_R, places_TK, offsets_E)
