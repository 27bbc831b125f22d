"""Whether a backend keeps its word on this machine: a row gets the same bits in any company.

Runs at start on request, for a processor or a driver that nobody has tested. The tests go further; this takes a moment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from openmodel_kernels.interface import AttentionRule, Gate, Kernels, RoutingRule, SequenceRows
from openmodel_kernels.rotary import inverse_frequencies, rotary_tables

_ROWS = 70
_PARTS = (1, 2, 3, 5, 17, 33, 64)
_HEADS, _GROUPS, _HEAD_DIM = 6, 2, 64


def variant_operations(kernels: Kernels, dtype: torch.dtype, device: torch.device) -> list[str]:
    """Names of the operations whose rows depend on their company; none when all is well."""
    chance = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=chance).to(dtype).to(device)

    x, weight = some(_ROWS, 576), kernels.pack(some(192, 576))
    up, down = kernels.pack(some(8, 128, 576), gate=Gate.SILU), kernels.pack(some(8, 576, 64))
    router = kernels.pack(some(8, 576))

    def experts(rows_TD: Tensor) -> Tensor:
        routing = kernels.route(kernels.logits(rows_TD, router), RoutingRule(top_k=2))
        return kernels.experts(rows_TD, routing, up, down, rows_TD)

    found = []
    for name, operation in (("linear", lambda rows: kernels.linear(rows, weight)), ("experts", experts)):
        whole = operation(x)
        parts = (slice(_ROWS - rows, _ROWS) for rows in _PARTS)
        if not all(torch.equal(operation(x[part].contiguous()), whole[part]) for part in parts):
            found.append(name)
    qkv = some(_ROWS, (_HEADS + 2 * _GROUPS) * _HEAD_DIM)
    whole = _attend(kernels, qkv, [_ROWS])
    if not all(torch.equal(_attend(kernels, qkv, chunks), whole) for chunks in ([1] * _ROWS, [33, 36, 1], [5, 65])):
        found.append("attention")
    return found


def _attend(kernels: Kernels, qkv: Tensor, chunks: list[int]) -> Tensor:
    blocks = range(-(-_ROWS // kernels.block_tokens))
    (cache,) = kernels.new_cache(1, len(blocks), _GROUPS, _HEAD_DIM, qkv.dtype)
    outs, done = [], 0
    for rows in chunks:
        part = qkv[done : done + rows].clone()
        positions = torch.arange(done, done + rows, device=qkv.device)
        cos, sin = rotary_tables(positions, inverse_frequencies(_HEAD_DIM, 10000.0).to(qkv.device))
        step = kernels.attention_step([SequenceRows(0, rows, done, blocks)])
        kernels.write_cache(step, part, _HEADS, cos, sin, cache)
        outs.append(kernels.attention(step, part, _HEADS, cache, AttentionRule(_HEAD_DIM**-0.5)))
        done += rows
    return torch.cat(outs)
