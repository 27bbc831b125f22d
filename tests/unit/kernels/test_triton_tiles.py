"""What only the GPU kernels have: tiles that are found on the device, and a sort that stays there."""

from __future__ import annotations

import pytest
import torch

from openmodel_kernels.interface import AttentionRule, Gate, RoutingRule, SequenceRows

from .backends import BACKENDS, TRITON, backend
from .plain import close
from .test_meaning_attention import plain_attention

only_triton = pytest.mark.parametrize("name", [parameter for parameter in BACKENDS if TRITON in parameter.values])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(2)


@only_triton
def test_more_sequences_than_one_search_holds(name: str) -> None:
    kernels, sequences, dim = backend(name), 140, 16
    cache = kernels.new_cache(1, sequences, 1, dim, torch.float32)[0]
    # Some sequences fill many tiles of queries, others a part of one, or have no row in this step.
    rows = [33 if index in (3, 130) else index % 2 for index in range(sequences)]
    tables = [[index] for index in range(sequences)]
    tables[3], tables[130] = [3, 4], [130, 131]
    tables[4], tables[131] = [0], [0]
    rows[4] = rows[131] = 0
    starts = [sum(rows[:index]) for index in range(sequences)]
    parts = [SequenceRows(*part) for part in zip(starts, rows, [0] * sequences, tables, strict=True)]
    qkv = torch.randn(sum(rows), 4 * dim)
    step = kernels.attention_step(parts)
    angles = torch.zeros(len(qkv), dim // 2)
    kernels.write_cache(step, qkv, 2, angles.cos(), angles, cache)
    out = kernels.attention(step, qkv, 2, cache, AttentionRule(0.3)).view(-1, 2, dim)
    for part in parts:
        part_rows = slice(part.row, part.row + part.rows)
        plain = qkv[part_rows].double().view(-1, 4, dim)
        expected = plain_attention(plain[:, :2], plain[:, 2:3], plain[:, 3:], 0, AttentionRule(0.3))
        assert close(out[part_rows], expected, torch.float32)


@only_triton
def test_slots_are_sorted_by_expert(name: str) -> None:
    from openmodel_kernels.triton.routing import sort_by_expert

    backend(name)
    experts_TK = torch.randint(0, 5, (300, 4), dtype=torch.int32)
    experts_TK[experts_TK == 2] = 4
    slots = sort_by_expert(experts_TK, 6)
    order = experts_TK.flatten().argsort(stable=True)
    assert slots.order_R.tolist() == order.tolist()
    assert torch.equal(slots.places_TK.flatten()[order], torch.arange(1200, dtype=torch.int32))
    ends = [int((experts_TK < expert).sum()) for expert in range(7)]
    assert slots.offsets_E.tolist() == ends


@only_triton
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_expert_of_many_tiles(name: str, dtype: torch.dtype) -> None:
    """Every token goes to expert 2 and to one of the others; tiles of an expert follow one another."""
    kernels, tokens = backend(name), 100
    x = torch.randn(tokens, 32).to(dtype)
    logits = torch.randn(tokens, 4)
    logits[:, 2] = 9
    routing = kernels.route(logits, RoutingRule(2, renormalize=False))
    weight = (torch.randn(4, 48, 32) / 6).to(dtype)
    down = (torch.randn(4, 32, 24) / 5).to(dtype)
    out = kernels.experts(x, routing, kernels.pack(weight, gate=Gate.SILU), kernels.pack(down), None)
    plain = torch.zeros(tokens, 32, dtype=torch.float64)
    for slot in range(2):
        chosen = routing.experts_TK[:, slot].long()
        gate, up = torch.einsum("tnd,td->tn", weight.double()[chosen], x.double()).chunk(2, dim=-1)
        hidden = torch.nn.functional.silu(gate) * up
        back = torch.einsum("tdn,tn->td", down.double()[chosen], hidden)
        plain += back * routing.weights_TK[:, slot, None].double()
    assert close(out, plain, dtype)


@only_triton
def test_what_does_not_fit_is_named(name: str) -> None:
    kernels = backend(name)
    packed = kernels.pack(torch.randn(32, 64))
    with pytest.raises(ValueError, match="x has 32 columns, the weight 64"):
        kernels.linear(torch.randn(1, 32), packed)
    with pytest.raises(ValueError, match="residual must have the output's shape"):
        kernels.linear(torch.randn(1, 64), packed, torch.randn(1, 8))
    with pytest.raises(ValueError, match=r"x is torch\.bfloat16, the weight torch\.float32"):
        kernels.linear(torch.randn(1, 64).bfloat16(), packed)


@only_triton
def test_no_rows_are_no_work(name: str) -> None:
    kernels = backend(name)
    assert kernels.logits(torch.randn(0, 64), kernels.pack(torch.randn(32, 64))).shape == (0, 32)
    assert kernels.rms_norm(torch.randn(0, 64), torch.randn(64), 1e-5).shape == (0, 64)
    routing = kernels.route(torch.randn(0, 4), RoutingRule(2))
    gate_up, down = kernels.pack(torch.randn(4, 32, 64), gate=Gate.SILU), kernels.pack(torch.randn(4, 64, 16))
    assert kernels.experts(torch.randn(0, 64), routing, gate_up, down, None).shape == (0, 64)
