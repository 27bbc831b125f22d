"""Each operation against the plainest way to write it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openmodel_kernels.attention import causal_attention
from openmodel_kernels.moe import route_softmax_top_k, routed_swiglu
from openmodel_kernels.norm import rms_norm
from openmodel_kernels.rotary import apply_rotary, inverse_frequencies, rotary_tables


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def close(ours: Tensor, plain: Tensor) -> bool:
    return torch.allclose(ours.float(), plain.float(), atol=1e-5, rtol=1e-4)


def test_rms_norm() -> None:
    x, weight = torch.randn(3, 8), torch.randn(8)
    assert close(rms_norm(x, weight, 1e-5), weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt())
    assert rms_norm(x.bfloat16(), weight.bfloat16(), 1e-5).dtype == torch.bfloat16


def test_rotary_turns_pairs_by_the_positions_angle() -> None:
    x = torch.randn(4, 2, 8)
    positions = torch.tensor([0, 1, 5, 1000])
    frequencies = inverse_frequencies(8, 10000.0)
    cos, sin = rotary_tables(positions, frequencies, torch.float32)
    pairs = torch.complex(x[..., :4], x[..., 4:])
    turned = pairs * torch.polar(torch.ones(4, 4), positions[:, None].float() * frequencies)[:, None]
    assert close(apply_rotary(x, cos, sin), torch.cat((turned.real, turned.imag), -1))


def plain_attention(q_NHD: Tensor, k_GSD: Tensor, v_GSD: Tensor, scale: float) -> Tensor:
    out = torch.empty_like(q_NHD)
    new, heads = q_NHD.shape[:2]
    groups, cached = k_GSD.shape[:2]
    for n in range(new):
        for h in range(heads):
            seen = slice(0, cached - new + n + 1)
            g = h * groups // heads
            weights = torch.softmax(k_GSD[g, seen] @ q_NHD[n, h] * scale, dim=0)
            out[n, h] = weights @ v_GSD[g, seen]
    return out


@pytest.mark.parametrize(("new", "cached"), [(1, 1), (1, 9), (6, 6), (4, 9)])
def test_attention_sees_what_came_before_and_itself(new: int, cached: int) -> None:
    q, k, v = torch.randn(new, 6, 8), torch.randn(2, cached, 8), torch.randn(2, cached, 8)
    assert close(causal_attention(q, k, v, 0.3), plain_attention(q, k, v, 0.3))


def plain_experts(x_TD: Tensor, logits_TE: Tensor, gate_up_EGD: Tensor, down_EDF: Tensor, top_k: int) -> Tensor:
    out = torch.zeros_like(x_TD)
    for t, x in enumerate(x_TD):
        probabilities = torch.softmax(logits_TE[t], dim=0)
        best = probabilities.argsort(descending=True)[:top_k]
        for e in best:
            gate, up = (gate_up_EGD[e] @ x).chunk(2)
            weight = probabilities[e] / probabilities[best].sum()
            out[t] += weight * (down_EDF[e] @ (torch.nn.functional.silu(gate) * up))
    return out


@pytest.mark.parametrize("tokens", [1, 2, 7, 40])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_routed_experts(tokens: int, top_k: int) -> None:
    x, logits = torch.randn(tokens, 16), torch.randn(tokens, 4)
    gate_up, down = torch.randn(4, 16, 16) / 4, torch.randn(4, 16, 8) / 4
    routing = route_softmax_top_k(logits, top_k)
    assert close(routed_swiglu(x, routing, gate_up, down), plain_experts(x, logits, gate_up, down, top_k))


def test_experts_that_nobody_goes_to_cost_nothing_and_break_nothing() -> None:
    x = torch.randn(3, 16)
    logits = torch.tensor([[0.0, 9.0, 8.0, 0.0]]).expand(3, 4)
    gate_up, down = torch.randn(4, 16, 16) / 4, torch.randn(4, 16, 8) / 4
    gate_up[0], down[3] = float("nan"), float("nan")
    assert routed_swiglu(x, route_softmax_top_k(logits, 2), gate_up, down).isfinite().all()
