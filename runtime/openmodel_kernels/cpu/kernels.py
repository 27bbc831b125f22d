"""The compiled backend: hands tensors to the extension.

Importing this module fails with ImportError where the extension was not built.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openmodel_kernels.cpu import _cpu
from openmodel_kernels.interface import (
    AttentionRule,
    Gate,
    LayerCache,
    PackedWeight,
    Routing,
    RoutingRule,
    Scoring,
    SequenceRows,
)

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def takes_head_dim(head_dim: int) -> bool:
    """True for heads that the attention is written for."""
    return head_dim % 16 == 0 and head_dim <= _cpu.MAX_HEAD_DIM


def _of_cpu(weight: PackedWeight) -> _cpu.Weight:
    assert isinstance(weight, _cpu.Weight)
    return weight


class CpuKernels:
    """The operations of `interface.Kernels`, on the CPU."""

    block_tokens = _cpu.BLOCK_TOKENS
    device = torch.device("cpu")

    @property
    def name(self) -> str:
        """Such as "cpu/amx_bf16"."""
        return f"cpu/{_cpu.capability()}"

    def pack(
        self, weight_ND: Tensor, *, gate: Gate | None = None, bias_N: Tensor | None = None, int8: bool = False
    ) -> PackedWeight:
        """A copy of the weight in panels of output columns."""
        return _cpu.pack(weight_ND, gate, None if bias_N is None else bias_N.float().contiguous(), int8)

    def pick(self, picked: Sequence[tuple[PackedWeight, int]]) -> PackedWeight:
        """Shares their memory."""
        return _cpu.pick([(_of_cpu(weight), expert) for weight, expert in picked])

    def rows(self, weight: PackedWeight, index_T: Tensor) -> Tensor:
        """Rows, picked out of the panels."""
        assert isinstance(weight, _cpu.Weight)
        return _cpu.weight_rows(weight, index_T)

    def linear(self, x_TD: Tensor, weight: PackedWeight, residual_TN: Tensor | None = None) -> Tensor:
        """The product with its gate or residual in one pass."""
        assert isinstance(weight, _cpu.Weight)
        return _cpu.linear(weight, x_TD, residual_TN, False)

    def logits(self, x_TD: Tensor, weight: PackedWeight) -> Tensor:
        """The product in float32."""
        assert isinstance(weight, _cpu.Weight)
        return _cpu.linear(weight, x_TD, None, True)

    def rms_norm(self, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        """Normalizes each row."""
        return _cpu.rms_norm(x_TD, weight_D, eps)

    def new_cache(
        self, layers: int, blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype
    ) -> Sequence[LayerCache]:
        """Blocks in the order of csrc/layout.h. The system hands out the memory when it is first written."""
        shape = [blocks, layers, 2, kv_heads, self.block_tokens * head_dim]
        cache_BL2GX = _cpu.empty(shape, torch.empty(0, dtype=dtype))
        return [LayerCache(cache_BL2GX[:, layer, 0], cache_BL2GX[:, layer, 1]) for layer in range(layers)]

    def attention_step(self, sequences: Sequence[SequenceRows]) -> _cpu.AttentionStep:
        """Rows and block tables in the extension's own form."""
        return _cpu.attention_step(
            [(part.row, part.rows, part.context) for part in sequences], [list(part.blocks) for part in sequences]
        )

    def norm_heads(self, qkv_TX: Tensor, heads: int, q_weight_C: Tensor, k_weight_C: Tensor, eps: float) -> None:
        """Head by head."""
        kv_heads = (qkv_TX.shape[1] // q_weight_C.shape[0] - heads) // 2
        _cpu.norm_heads(qkv_TX, heads, kv_heads, q_weight_C, k_weight_C, eps)

    def write_cache(
        self, step: _cpu.AttentionStep, qkv_TX: Tensor, heads: int, cos_TC: Tensor, sin_TC: Tensor, cache: LayerCache
    ) -> None:
        """Rotates in place and writes, block by block."""
        _cpu.write_cache(step, qkv_TX, heads, cos_TC, sin_TC, cache.keys_BGX, cache.values_BGX)

    def attention(
        self, step: _cpu.AttentionStep, qkv_TX: Tensor, heads: int, cache: LayerCache, rule: AttentionRule
    ) -> Tensor:
        """All sequences and heads at once."""
        window, softcap = rule.window or 0, rule.softcap or 0.0
        return _cpu.paged_attention(
            step, qkv_TX, heads, cache.keys_BGX, cache.values_BGX, rule.scale, window, softcap, rule.sinks_H
        )

    def route(self, logits_TE: Tensor, rule: RoutingRule) -> Routing:
        """Token by token."""
        sigmoid = rule.scoring is Scoring.SIGMOID
        return Routing(
            *_cpu.route(
                logits_TE,
                rule.top_k,
                sigmoid,
                rule.renormalize,
                rule.scale,
                rule.groups,
                rule.top_groups,
                rule.group_best,
                rule.bias_E,
            )
        )

    def grouped_linear(self, x_GTD: Tensor, weight: PackedWeight) -> Tensor:
        """Groups one after another."""
        assert isinstance(weight, _cpu.Weight)
        groups, rows = x_GTD.shape[:2]
        offsets = list(range(0, groups * rows + 1, rows)) if rows else [0] * (groups + 1)
        return _cpu.grouped_linear(weight, x_GTD.flatten(0, 1), offsets).view(groups, rows, -1)

    def experts(
        self, x_TD: Tensor, routing: Routing, gate_up: PackedWeight, down: PackedWeight, residual_TD: Tensor | None
    ) -> Tensor:
        """Rows sorted by expert, two grouped products, and each token's slots summed in order."""
        assert isinstance(gate_up, _cpu.Weight)
        assert isinstance(down, _cpu.Weight)
        slots, places, offsets = _cpu.sort_by_expert(routing.experts_TK, gate_up.groups)
        rows_RD = _cpu.gather_rows(x_TD, slots, routing.experts_TK.shape[1])
        out_RD = _cpu.grouped_linear(down, _cpu.grouped_linear(gate_up, rows_RD, offsets), offsets)
        return _cpu.combine(out_RD, places, routing.weights_TK, residual_TD)

    def expert_rows(self, x_RD: Tensor, experts_R: Tensor, gate_up: PackedWeight, down: PackedWeight) -> Tensor:
        """Rows sorted by expert, two grouped products, and back in order."""
        assert isinstance(gate_up, _cpu.Weight)
        assert isinstance(down, _cpu.Weight)
        slots, places, offsets = _cpu.sort_by_expert(experts_R[:, None], gate_up.groups)
        sorted_RD = _cpu.gather_rows(x_RD, slots, 1)
        out_RD = _cpu.grouped_linear(down, _cpu.grouped_linear(gate_up, sorted_RD, offsets), offsets)
        return _cpu.gather_rows(out_RD, places.flatten(), 1)

    def combine(self, rows_RD: Tensor, places_TK: Tensor, weights_TK: Tensor, residual_TD: Tensor | None) -> Tensor:
        """A token a task."""
        return _cpu.combine(rows_RD, places_TK, weights_TK, residual_TD)

    def likeliest(self, logits_SV: Tensor, allowed_SO: Tensor | None = None) -> list[int]:
        """Index of each row's largest number."""
        return _cpu.argmax_rows(logits_SV, allowed_SO)

    def set_num_threads(self, threads: int) -> None:
        """The extension's threads and torch's."""
        _cpu.set_num_threads(threads)
        torch.set_num_threads(threads)
