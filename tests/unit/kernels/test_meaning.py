"""Every backend computes what the plainest way to write the operation computes, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from openmodel_kernels.interface import AttentionRule, Gate, RoutingRule, Scoring, SequenceRows
from openmodel_kernels.quantize import to_int8
from openmodel_kernels.rotary import inverse_frequencies, rotary_tables

from .backends import INTERPRETED, TOLERANCE, all_backends, all_dtypes, backend

# Rows of three sequences in three steps; Triton's interpreter is slow.
STEPS = ([12, 1, 40], [1, 1, 2], [2, 3, 24]) if INTERPRETED else ([70, 1, 31], [1, 1, 2], [5, 30, 90])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def close(ours: Tensor, plain: Tensor, dtype: torch.dtype) -> bool:
    return torch.allclose(ours.double(), plain, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@all_backends
@all_dtypes
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 32), (5, 200, 72), (33, 576, 8), (300, 32, 100)])
def test_linear(name: str, dtype: torch.dtype, rows: int, inputs: int, outputs: int) -> None:
    kernels = backend(name)
    x, weight = torch.randn(rows, inputs).to(dtype), (torch.randn(outputs, inputs) / inputs**0.5).to(dtype)
    residual = torch.randn(rows, outputs).to(dtype)
    packed = kernels.pack(weight)
    plain = x.double() @ weight.double().T
    assert close(kernels.linear(x, packed), plain, dtype)
    assert close(kernels.linear(x, packed, residual), residual.double() + plain, dtype)
    assert kernels.logits(x, packed).dtype == torch.float32
    assert close(kernels.logits(x, packed), plain, dtype)
    index = torch.tensor([outputs - 1, 0, outputs // 2])
    assert torch.equal(kernels.rows(packed, index), weight[index])


def plain_gate(both: Tensor, gate: Gate) -> Tensor:
    x, up = both.chunk(2, dim=-1)
    if gate is Gate.SWIGLU_OAI:
        x, up = x.clamp(max=7), up.clamp(-7, 7)
        return x * torch.sigmoid(1.702 * x) * (up + 1)
    return {Gate.SILU: silu, Gate.GELU_TANH: lambda x: gelu(x, approximate="tanh")}[gate](x) * up


@all_backends
@all_dtypes
@pytest.mark.parametrize("gate", [None, *Gate])
def test_bias_and_gate(name: str, dtype: torch.dtype, gate: Gate | None) -> None:
    kernels = backend(name)
    x, weight = torch.randn(20, 64).to(dtype), (torch.randn(72, 64) / 4).to(dtype)
    # Wide enough for the clamps to matter.
    bias, residual = torch.randn(72) * 4, torch.randn(20, 72).to(dtype)
    for added in (None, bias):
        packed = kernels.pack(weight, gate=gate, bias_N=added)
        plain = x.double() @ weight.double().T + (0.0 if added is None else added.double())
        if gate is not None:
            assert close(kernels.linear(x, packed) / 8, plain_gate(plain, gate) / 8, dtype)
            continue
        assert close(kernels.linear(x, packed, residual) / 8, (residual.double() + plain) / 8, dtype)
        assert close(kernels.logits(x, packed), plain, dtype)


@all_backends
@all_dtypes
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 32), (20, 201, 72), (300, 96, 100)])
def test_weights_in_eight_bits(name: str, dtype: torch.dtype, rows: int, inputs: int, outputs: int) -> None:
    kernels = backend(name)
    x, weight = torch.randn(rows, inputs).to(dtype), (torch.randn(outputs, inputs) / inputs**0.5).to(dtype)
    weight[3] = 0
    bias, index = torch.randn(outputs), torch.tensor([outputs - 1, 3, 0])
    numbers, scale = to_int8(weight)
    plain = numbers.double() * scale.double()[:, None]
    assert (plain - weight.double()).abs().max() <= scale.max() / 2 * 1.001
    packed = kernels.pack(weight, bias_N=bias, int8=True)
    assert packed.nbytes < 0.8 * weight.nbytes or dtype == torch.float32 or outputs < 64
    assert close(kernels.logits(x, packed), x.double() @ plain.T + bias.double(), dtype)
    assert close(kernels.rows(packed, index), plain[index], dtype)
    gated = kernels.pack(weight, gate=Gate.SILU, int8=True)
    assert close(kernels.linear(x, gated), plain_gate(x.double() @ plain.T, Gate.SILU), dtype)


@all_backends
@all_dtypes
def test_norm_of_heads(name: str, dtype: torch.dtype) -> None:
    heads, groups, dim = 4, 2, 48
    qkv, weights = torch.randn(5, (heads + 2 * groups) * dim).to(dtype), torch.randn(2, dim).to(dtype)
    plain = qkv.double().view(5, -1, dim)
    normed = plain / (plain.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = torch.cat(
        (normed[:, :heads] * weights[0].double(), normed[:, heads:-groups] * weights[1].double(), plain[:, -groups:]), 1
    )
    backend(name).norm_heads(qkv, heads, weights[0], weights[1], 1e-5)
    assert close(qkv.view(5, -1, dim), expected, dtype)


@all_backends
@all_dtypes
def test_rms_norm(name: str, dtype: torch.dtype) -> None:
    x, weight = torch.randn(3, 200).to(dtype), torch.randn(200).to(dtype)
    plain = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    out = backend(name).rms_norm(x, weight, 1e-5)
    assert out.dtype == dtype
    assert close(out, plain, dtype)


def plain_attention(q_NHC: Tensor, k_SGC: Tensor, v_SGC: Tensor, context: int, rule: AttentionRule) -> Tensor:
    out = torch.empty_like(q_NHC)
    for n in range(q_NHC.shape[0]):
        for h in range(q_NHC.shape[1]):
            g = h * k_SGC.shape[1] // q_NHC.shape[1]
            end = context + n + 1
            seen = slice(0 if rule.window is None else max(0, end - rule.window), end)
            scores = k_SGC[seen, g] @ q_NHC[n, h] * rule.scale
            if rule.softcap is not None:
                scores = rule.softcap * torch.tanh(scores / rule.softcap)
            if rule.sinks_H is not None:
                scores = torch.cat((scores, rule.sinks_H[h : h + 1].double()))
            weights = torch.softmax(scores, dim=0)
            out[n, h] = weights[: end - seen.start] @ v_SGC[seen, g]
    return out


def plain_rotary(x_NHC: Tensor, positions_N: Tensor) -> Tensor:
    half = x_NHC.shape[-1] // 2
    angles = positions_N.double()[:, None] * inverse_frequencies(2 * half, 10000.0).double()
    turned = torch.complex(x_NHC[..., :half], x_NHC[..., half:]) * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((turned.real, turned.imag), -1)


@all_backends
@all_dtypes
@pytest.mark.parametrize(("heads", "groups", "dim"), [(6, 2, 64), (4, 4, 32), (8, 1, 48)])
def test_attention_over_a_paged_cache(name: str, dtype: torch.dtype, heads: int, groups: int, dim: int) -> None:
    _attend_and_compare(name, dtype, heads, groups, dim, AttentionRule(0.2))


@all_backends
@all_dtypes
@pytest.mark.parametrize(
    "rule",
    [
        AttentionRule(0.2, window=1),
        AttentionRule(0.2, window=40),
        AttentionRule(0.3, softcap=2.0),
        AttentionRule(0.2, sinks_H=torch.linspace(-2, 6, 6)),
        AttentionRule(0.3, window=20, softcap=5.0, sinks_H=torch.linspace(-2, 6, 6)),
    ],
    ids=["window=1", "window=40", "softcap", "sinks", "all"],
)
def test_windows_caps_and_sinks(name: str, dtype: torch.dtype, rule: AttentionRule) -> None:
    _attend_and_compare(name, dtype, 6, 2, 32, rule)


def _attend_and_compare(name: str, dtype: torch.dtype, heads: int, groups: int, dim: int, rule: AttentionRule) -> None:
    kernels = backend(name)
    _, cache = kernels.new_cache(2, 12, groups, dim, dtype)
    # What was in a block before must not matter, be it no number at all.
    cache.keys_BGX.fill_(float("nan"))
    cache.values_BGX.fill_(float("nan"))
    tables = [[7, 2, 9], [4], [1, 0, 3, 11]]
    history: list[list[Tensor]] = [[], [], []]
    cached = [0, 0, 0]
    for step_rows in STEPS:
        qkv = torch.randn(sum(step_rows), (heads + 2 * groups) * dim).to(dtype)
        parts, start = [], 0
        for table, count, context in zip(tables, step_rows, cached, strict=True):
            parts.append(SequenceRows(start, count, context, table))
            start += count
        positions = torch.cat([torch.arange(part.context, part.context + part.rows) for part in parts])
        plain = qkv.double().view(len(qkv), -1, dim)
        plain = torch.cat((plain_rotary(plain[:, : heads + groups], positions), plain[:, heads + groups :]), dim=1)
        cos, sin = rotary_tables(positions, inverse_frequencies(dim, 10000.0))
        step = kernels.attention_step(parts)
        kernels.write_cache(step, qkv, heads, cos, sin, cache)
        out = kernels.attention(step, qkv, heads, cache, rule).view(len(qkv), heads, dim)
        for index, part in enumerate(parts):
            rows = slice(part.row, part.row + part.rows)
            history[index].append(plain[rows, heads:])
            past = torch.cat(history[index])
            expected = plain_attention(plain[rows, :heads], past[:, :groups], past[:, groups:], part.context, rule)
            assert close(out[rows], expected, dtype)
            cached[index] += part.rows


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


@all_backends
def test_the_likeliest_of_equals_is_the_lowest(name: str) -> None:
    assert backend(name).likeliest(torch.tensor([[0.0, 3.0, 3.0, -1.0], [2.0, 0.0, 1.0, 2.0]])) == [1, 0]


def test_wrong_shapes_are_named() -> None:
    from .backends import CAPABILITIES

    kernels = backend(CAPABILITIES[0])
    packed = kernels.pack(torch.randn(32, 64))
    with pytest.raises(RuntimeError, match="x has 32 columns, the weight 64"):
        kernels.linear(torch.randn(1, 32), packed)
    with pytest.raises(RuntimeError, match="residual must have the output's shape"):
        kernels.linear(torch.randn(1, 64), packed, torch.randn(1, 8))
    with pytest.raises(RuntimeError, match="x must be Float"):
        kernels.linear(torch.randn(1, 64).bfloat16(), packed)


def test_blocks_and_rows_that_are_not_there_are_refused() -> None:
    from .backends import CAPABILITIES

    kernels = backend(CAPABILITIES[0])
    (cache,) = kernels.new_cache(1, 2, 1, 32, torch.float32)
    qkv, cos = torch.randn(1, 3 * 32), torch.ones(1, 16)
    for part, words in (
        (SequenceRows(0, 1, 0, [2]), "block 2 of 2"),
        (SequenceRows(0, 1, 0, [-1]), "block -1 is none"),
        (SequenceRows(1, 1, 0, [0]), "rows beyond qkv"),
    ):
        step = kernels.attention_step([part])
        with pytest.raises(RuntimeError, match=words):
            kernels.write_cache(step, qkv, 1, cos, cos, cache)
        with pytest.raises(RuntimeError, match=words):
            kernels.attention(step, qkv, 1, cache, AttentionRule(1.0))
    with pytest.raises(RuntimeError, match="sequence 0 lacks blocks"):
        kernels.attention_step([SequenceRows(0, 33, 0, [0])])
