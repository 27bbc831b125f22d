"""Routing of tokens to experts and the experts' grouped feed-forward.

T tokens, E experts, K experts a token, R = T * K routed rows, D hidden dimension, F feed-forward dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm, silu


@dataclass(frozen=True, slots=True)
class Routing:
    """Which experts a token goes to, and with which weight."""

    experts_TK: Tensor
    weights_TK: Tensor


def route_softmax_top_k(logits_TE: Tensor, top_k: int) -> Routing:
    """Mixtral's routing: softmax over all experts in float32, the best K, renormalized to sum 1."""
    probabilities_TE = torch.softmax(logits_TE.float(), dim=-1)
    weights_TK, experts_TK = probabilities_TE.topk(top_k, dim=-1)
    return Routing(experts_TK, weights_TK / weights_TK.sum(dim=-1, keepdim=True))


def routed_swiglu(x_TD: Tensor, routing: Routing, gate_up_EGD: Tensor, down_EDF: Tensor) -> Tensor:
    """The weighted sum of each token's experts, each expert a SwiGLU feed-forward.

    Rows are sorted by expert, multiplied group by group in one grouped product, and summed per token in the order
    of its top-k slots, so that the sum does not depend on which other tokens are there.

    Args:
        x_TD: activations.
        routing: experts and weights of each token.
        gate_up_EGD: gate and up projections above each other, (E, G = 2F, D), rows as a linear layer stores them.
        down_EDF: down projections, (E, D, F).
    """
    tokens, top_k = routing.experts_TK.shape
    expert_R, order_R = routing.experts_TK.flatten().sort(stable=True)
    # Group boundaries, exclusive ends, as grouped_mm wants them.
    ends_E = torch.searchsorted(
        expert_R,
        torch.arange(gate_up_EGD.shape[0], device=x_TD.device),
        right=True,
        out_int32=True,
    )
    rows_RD = x_TD[order_R // top_k]
    gate_RF, up_RF = grouped_mm(rows_RD, gate_up_EGD.transpose(1, 2), offs=ends_E).chunk(2, dim=-1)
    out_RD = grouped_mm(silu(gate_RF) * up_RF, down_EDF.transpose(1, 2), offs=ends_E)
    unsorted_RD = torch.empty_like(out_RD)
    unsorted_RD[order_R] = out_RD
    slots_TKD = unsorted_RD.view(tokens, top_k, -1) * routing.weights_TK[..., None].to(x_TD.dtype)
    combined_TD = slots_TKD[:, 0]
    for slot in range(1, top_k):
        combined_TD = combined_TD + slots_TKD[:, slot]
    return combined_TD
