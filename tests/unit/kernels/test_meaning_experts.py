"""Routing and experts of every backend beside the plainest way to write them, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from openmodel_kernels.interface import Gate, RoutingRule, Scoring

from .backends import all_backends, all_dtypes, backend
from .plain import close, plain_gate


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@all_backends
@all_dtypes
@pytest.mark.parametrize("tokens", [1, 3, 40])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_routed_experts(name: str, dtype: torch.dtype, tokens: int, top_k: int) -> None:
    kernels = backend(name)
    x, logits = torch.randn(tokens, 64).to(dtype), torch.randn(tokens, 6)
    logits[:, 5] = -30.0
    gate_up, down = (torch.randn(6, 96, 64) / 8).to(dtype), (torch.randn(6, 64, 48) / 7).to(dtype)
    # An expert that nobody goes to costs nothing and breaks nothing.
    gate_up[5], down[5] = float("nan"), float("nan")
    routing = kernels.route(logits, RoutingRule(top_k))
    out = kernels.experts(x, routing, kernels.pack(gate_up, gate=Gate.SILU), kernels.pack(down), x)
    plain = x.double()
    for t in range(tokens):
        probabilities = torch.softmax(logits[t].double(), dim=0)
        best = probabilities.argsort(descending=True)[:top_k]
        assert routing.experts_TK[t].tolist() == best.tolist()
        for e in best:
            gate, up = (gate_up[e].double() @ x[t].double()).chunk(2)
            weight = probabilities[e] / probabilities[best].sum()
            plain[t] += weight * (down[e].double() @ (silu(gate) * up))
    assert close(out, plain, dtype)


@all_backends
@all_dtypes
def test_products_by_group(name: str, dtype: torch.dtype) -> None:
    kernels = backend(name)
    for rows in (1, 40):
        x, weight = torch.randn(3, rows, 48).to(dtype), (torch.randn(3, 40, 48) / 7).to(dtype)
        plain = x.double() @ weight.double().transpose(1, 2)
        assert close(kernels.grouped_linear(x, kernels.pack(weight)), plain, dtype)


@all_backends
@all_dtypes
def test_experts_with_biases(name: str, dtype: torch.dtype) -> None:
    kernels = backend(name)
    x, logits = torch.randn(9, 64).to(dtype), torch.randn(9, 4)
    gate_up, down = (torch.randn(4, 96, 64) / 8).to(dtype), (torch.randn(4, 64, 48) / 7).to(dtype)
    up_bias, down_bias = torch.randn(4, 96), torch.randn(4, 64)
    routing = kernels.route(logits, RoutingRule(2))
    packed = kernels.pack(gate_up, gate=Gate.SWIGLU_OAI, bias_N=up_bias), kernels.pack(down, bias_N=down_bias)
    out = kernels.experts(x, routing, *packed, x)
    plain = x.double()
    for t in range(9):
        best = logits[t].argsort(descending=True)[:2]
        for e, weight in zip(best, torch.softmax(logits[t, best].double(), dim=0), strict=True):
            hidden = plain_gate(gate_up[e].double() @ x[t].double() + up_bias[e].double(), Gate.SWIGLU_OAI)
            plain[t] += weight * (down[e].double() @ hidden + down_bias[e].double())
    assert close(out / 2, plain / 2, dtype)


@all_backends
@all_dtypes
@pytest.mark.parametrize("residual", [True, False])
def test_rows_and_their_sum_are_experts_to_the_bit(name: str, dtype: torch.dtype, residual: bool) -> None:
    """Ranks compute rows in any order and company, and their owner adds them."""
    kernels = backend(name)
    x, logits = torch.randn(30, 64).to(dtype), torch.randn(30, 6)
    packed = (
        kernels.pack((torch.randn(6, 96, 64) / 8).to(dtype), gate=Gate.SILU),
        kernels.pack((torch.randn(6, 64, 48) / 7).to(dtype)),
    )
    routing = kernels.route(logits, RoutingRule(3))
    whole = kernels.experts(x, routing, *packed, x if residual else None)
    order = torch.randperm(90)
    experts_R = routing.experts_TK.flatten()[order]
    rows = [kernels.expert_rows(x[part // 3], experts, *packed) for part, experts in _in_two(order, experts_R)]
    places = order.argsort().int().view(30, 3)
    summed = kernels.combine(torch.cat(rows), places, routing.weights_TK, x if residual else None)
    assert torch.equal(summed, whole)
    assert kernels.expert_rows(x[:0], experts_R[:0], *packed).shape == (0, 64)


@all_backends
@pytest.mark.parametrize("int8", [False, True])
def test_picked_experts_are_those_that_were_packed(name: str, int8: bool) -> None:
    kernels = backend(name)
    weights, biases = (torch.randn(3, 96, 64) / 8, torch.randn(2, 96, 64) / 8), (torch.randn(3, 96), torch.randn(2, 96))
    first, second = (
        kernels.pack(weight, gate=Gate.SILU, bias_N=bias, int8=int8)
        for weight, bias in zip(weights, biases, strict=True)
    )
    down = kernels.pack(torch.randn(4, 64, 48) / 7, int8=int8)
    picked = kernels.pick([(second, 1), (first, 0), (first, 2), (second, 0)])
    joined = [(1, 1), (0, 0), (0, 2), (1, 0)]
    whole = kernels.pack(
        torch.stack([weights[of][at] for of, at in joined]),
        gate=Gate.SILU,
        bias_N=torch.stack([biases[of][at] for of, at in joined]),
        int8=int8,
    )
    x, experts = torch.randn(20, 64), torch.arange(20, dtype=torch.int32) % 4
    assert torch.equal(kernels.expert_rows(x, experts, picked, down), kernels.expert_rows(x, experts, whole, down))
    assert picked.nbytes == whole.nbytes


def _in_two(order: Tensor, experts_R: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for part in (slice(0, 37), slice(37, None)):
        yield order[part], experts_R[part]


def plain_routing(logits: Tensor, rule: RoutingRule) -> tuple[list[int], list[float]]:
    """One token, as DeepSeek's papers have it."""
    scores = torch.softmax(logits, 0) if rule.scoring is Scoring.SOFTMAX else torch.sigmoid(logits)
    worth = scores if rule.bias_E is None else scores + rule.bias_E.double()
    members = worth.view(rule.groups, -1)
    groups = members.topk(rule.group_best, dim=1).values.sum(1).topk(rule.top_groups).indices.tolist()
    size = members.shape[1]
    allowed = [e for e in range(len(logits)) if e // size in groups]
    best = sorted(allowed, key=lambda e: -worth[e])[: rule.top_k]
    total = sum(scores[e] for e in best) if rule.renormalize else 1.0
    return best, [float(scores[e] / total * rule.scale) for e in best]


@all_backends
@pytest.mark.parametrize(
    "rule",
    [
        RoutingRule(3, renormalize=False, scale=16.0),
        RoutingRule(2, Scoring.SIGMOID),
        RoutingRule(3, renormalize=False, groups=4, top_groups=2),
        RoutingRule(4, Scoring.SIGMOID, scale=2.5, groups=4, top_groups=2, group_best=2, bias_E=torch.randn(12)),
    ],
    ids=["scaled", "sigmoid", "groups", "bias"],
)
def test_ways_to_route(name: str, rule: RoutingRule) -> None:
    logits = torch.randn(40, 12)
    routing = backend(name).route(logits, rule)
    for t in range(len(logits)):
        experts, weights = plain_routing(logits[t].double(), rule)
        assert routing.experts_TK[t].tolist() == experts
        assert routing.weights_TK[t].tolist() == pytest.approx(weights, rel=1e-4)


@all_backends
def test_routing_ties_go_to_the_lower_expert(name: str) -> None:
    routing = backend(name).route(torch.tensor([[0.0, 1.0, 1.0, 1.0]]), RoutingRule(2, renormalize=False))
    assert routing.experts_TK.tolist() == [[1, 2]]
    assert routing.weights_TK.sum() < 1
