"""Which experts a token goes to."""

from __future__ import annotations

import torch
from torch import Tensor

from openmodel_kernels.interface import Routing, RoutingRule, Scoring
from openmodel_kernels.reference.activation import sigmoid


def choose_experts(logits_TE: Tensor, rule: RoutingRule) -> Routing:
    """Scores in float32, the best K by a stable sort, so that the lower expert wins a tie."""
    softmax = rule.scoring is Scoring.SOFTMAX
    scores_TE = torch.softmax(logits_TE, dim=-1) if softmax else sigmoid(logits_TE)
    # Without a bias logits are in the order of their scores, and finer.
    plain = rule.bias_E is None and rule.group_best == 1
    worth_TE = logits_TE if plain else scores_TE + (0.0 if rule.bias_E is None else rule.bias_E)
    if rule.top_groups < rule.groups:
        worth_TE = _keep_best_groups(worth_TE, rule)
    experts_TK = worth_TE.sort(dim=-1, descending=True, stable=True).indices[:, : rule.top_k]
    weights_TK = scores_TE.gather(1, experts_TK)
    if rule.renormalize:
        weights_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True)
    return Routing(experts_TK.int().contiguous(), (weights_TK * rule.scale).contiguous())


def _keep_best_groups(worth_TE: Tensor, rule: RoutingRule) -> Tensor:
    members_TGM = worth_TE.view(worth_TE.shape[0], rule.groups, -1)
    groups_TG = members_TGM.sort(dim=-1, descending=True).values[..., : rule.group_best].sum(dim=-1)
    best = groups_TG.sort(dim=-1, descending=True, stable=True).indices[:, : rule.top_groups]
    lost_TG = torch.ones_like(groups_TG, dtype=torch.bool).scatter_(1, best, False)
    return members_TGM.masked_fill(lost_TG[..., None], float("-inf")).view_as(worth_TE)
