"""Which experts a token goes to, and its rows in the order of experts; nothing of it leaves the device.

T tokens, E experts, K experts a token, R = T * K slots: a slot is one token's row for one of its experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from openmodel_kernels.interface import Routing, RoutingRule, Scoring
from openmodel_kernels.triton.jit import device_function, kernel, launch, power_of_two, whole

_SORT_BLOCK = 1024


@device_function
def keep_best_groups(
    worth_E: tl.tensor,
    e_E: tl.tensor,
    GROUPS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    TOP_GROUPS: tl.constexpr,
    GROUP_BEST: tl.constexpr,
    BLOCK_G: tl.constexpr,
) -> tl.tensor:
    """What experts are worth, -inf outside of the best groups."""
    g_G = tl.arange(0, BLOCK_G)
    groups_G = tl.full((BLOCK_G,), float("-inf"), tl.float32)
    for g in tl.static_range(GROUPS):
        members_E = tl.where(e_E // GROUP_SIZE == g, worth_E, float("-inf"))
        together = 0.0
        for _ in tl.static_range(GROUP_BEST):
            together += tl.max(members_E)
            members_E = tl.where(e_E == tl.argmax(members_E, 0), float("-inf"), members_E)
        groups_G = tl.where(g_G == g, together, groups_G)
    kept_E = e_E < 0
    for _ in tl.static_range(TOP_GROUPS):
        best = tl.argmax(groups_G, 0)
        kept_E = kept_E | (e_E // GROUP_SIZE == best)
        groups_G = tl.where(g_G == best, float("-inf"), groups_G)
    return tl.where(kept_E, worth_E, float("-inf"))


@kernel()
def route_kernel(  # noqa: PLR0913
    logits_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    experts_ptr: tl.tensor,
    weights_ptr: tl.tensor,
    experts: tl.tensor,
    scale: tl.tensor,
    TOP_K: tl.constexpr,
    SIGMOID: tl.constexpr,
    RENORMALIZE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    GROUPS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    TOP_GROUPS: tl.constexpr,
    GROUP_BEST: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_G: tl.constexpr,
) -> None:
    """One token: scores, and the best by turns; argmax takes the first of equals."""
    token = tl.program_id(0)
    e_E = tl.arange(0, BLOCK_E)
    k_K = tl.arange(0, BLOCK_K)
    logits_E = tl.load(logits_ptr + token * experts + e_E, mask=e_E < experts, other=float("-inf")).to(tl.float32)
    if SIGMOID:
        scores_E = 1.0 / (1.0 + tl.exp(-logits_E))
    else:
        scores_E = tl.exp(logits_E - tl.max(logits_E))
        scores_E = scores_E / tl.sum(scores_E)
    # Without a bias logits are in the order of their scores, and finer.
    worth_E = logits_E
    if HAS_BIAS or GROUP_BEST > 1:
        worth_E = tl.where(e_E < experts, scores_E, float("-inf"))
    if HAS_BIAS:
        worth_E += tl.load(bias_ptr + e_E, mask=e_E < experts, other=0.0)
    if TOP_GROUPS < GROUPS:
        worth_E = keep_best_groups(worth_E, e_E, GROUPS, GROUP_SIZE, TOP_GROUPS, GROUP_BEST, BLOCK_G)
    chosen_K = tl.zeros((BLOCK_K,), tl.int32)
    weights_K = tl.zeros((BLOCK_K,), tl.float32)
    kept = 0.0
    for k in tl.static_range(TOP_K):
        best = tl.argmax(worth_E, 0)
        weight = tl.sum(tl.where(e_E == best, scores_E, 0.0))
        kept += weight
        chosen_K = tl.where(k_K == k, best, chosen_K)
        weights_K = tl.where(k_K == k, weight, weights_K)
        worth_E = tl.where(e_E == best, float("-inf"), worth_E)
    if RENORMALIZE:
        weights_K = weights_K / kept
    tl.store(experts_ptr + token * TOP_K + k_K, chosen_K, mask=k_K < TOP_K)
    tl.store(weights_ptr + token * TOP_K + k_K, weights_K * scale, mask=k_K < TOP_K)


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


def route(logits_TE: Tensor, rule: RoutingRule) -> Routing:
    """Scores all experts and takes the best K; of equals the lower expert."""
    tokens, experts = logits_TE.shape
    experts_TK = torch.empty((tokens, rule.top_k), dtype=torch.int32, device=logits_TE.device)
    weights_TK = torch.empty((tokens, rule.top_k), dtype=torch.float32, device=logits_TE.device)
    launch(
        route_kernel,
        (tokens,),
        whole(logits_TE),
        logits_TE if rule.bias_E is None else rule.bias_E,
        experts_TK,
        weights_TK,
        experts,
        float(rule.scale),
        TOP_K=rule.top_k,
        SIGMOID=rule.scoring is Scoring.SIGMOID,
        RENORMALIZE=rule.renormalize,
        HAS_BIAS=rule.bias_E is not None,
        GROUPS=rule.groups,
        GROUP_SIZE=experts // rule.groups,
        TOP_GROUPS=rule.top_groups,
        GROUP_BEST=rule.group_best,
        BLOCK_K=power_of_two(rule.top_k),
        BLOCK_E=power_of_two(experts),
        BLOCK_G=power_of_two(rule.groups),
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


def in_order(groups: int, rows: int, device: torch.device) -> SortedSlots:
    """Slots that stand in the order of their experts, as many to each."""
    order_R = torch.arange(groups * rows, dtype=torch.int32, device=device)
    offsets_E = torch.arange(0, (groups + 1) * rows, max(rows, 1), dtype=torch.int32, device=device)
    return SortedSlots(order_R, order_R.view(-1, 1), offsets_E)
