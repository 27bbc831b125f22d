"""The reference backend: plain torch on any device, slow and plain to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openmodel_kernels.allowed import only_allowed
from openmodel_kernels.interface import (
    AttentionRule,
    Gate,
    LayerCache,
    PackedWeight,
    Routing,
    RoutingRule,
    SequenceRows,
)
from openmodel_kernels.quantize import to_int8
from openmodel_kernels.reference.activation import join_halves
from openmodel_kernels.reference.attention import BLOCK_TOKENS, attend_sequence, write_sequence
from openmodel_kernels.reference.linear import fixed_shape_linear
from openmodel_kernels.reference.norm import rms_norm
from openmodel_kernels.reference.rotary import apply_rotary
from openmodel_kernels.reference.routing import choose_experts


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """A weight as it came, or in int8."""

    weight: Tensor
    dtype: torch.dtype
    """What it came in."""
    gate: Gate | None
    bias: Tensor | None
    scale: Tensor | None = None
    """Factors of the rows of a weight in int8."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        more = (tensor.nbytes for tensor in (self.bias, self.scale) if tensor is not None)
        return self.weight.nbytes + sum(more)

    def of_expert(self, expert: int) -> DenseWeight:
        """One expert's."""
        bias, scale = (None if tensor is None else tensor[expert] for tensor in (self.bias, self.scale))
        return DenseWeight(self.weight[expert], self.dtype, self.gate, bias, scale)


def _stacked(tensors: Sequence[Tensor | None]) -> Tensor | None:
    there = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(there) if there else None


def _dense(weight: PackedWeight) -> DenseWeight:
    assert isinstance(weight, DenseWeight)
    return weight


def _product(x_TD: Tensor, weight: DenseWeight) -> Tensor:
    """With bias and gate, in float32."""
    out = fixed_shape_linear(x_TD, weight.weight)
    if weight.scale is not None:
        out = out * weight.scale
    if weight.bias is not None:
        out = out + weight.bias
    return out if weight.gate is None else join_halves(out, weight.gate)


class ReferenceKernels:
    """The operations of `interface.Kernels`."""

    name = "reference"
    block_tokens = BLOCK_TOKENS
    device = torch.device("cpu")

    def pack(
        self, weight_ND: Tensor, *, gate: Gate | None = None, bias_N: Tensor | None = None, int8: bool = False
    ) -> DenseWeight:
        """The weight itself."""
        bias = None if bias_N is None else bias_N.float()
        if not int8:
            return DenseWeight(weight_ND, weight_ND.dtype, gate, bias)
        numbers, scale = to_int8(weight_ND)
        return DenseWeight(numbers, weight_ND.dtype, gate, bias, scale)

    def pick(self, picked: Sequence[tuple[PackedWeight, int]]) -> DenseWeight:
        """Copies them."""
        experts = [_dense(weight).of_expert(expert) for weight, expert in picked]
        first = experts[0]
        return DenseWeight(
            torch.stack([each.weight for each in experts]),
            first.dtype,
            first.gate,
            _stacked([each.bias for each in experts]),
            _stacked([each.scale for each in experts]),
        )

    def rows(self, weight: PackedWeight, index_T: Tensor) -> Tensor:
        """Rows of the weight."""
        dense = _dense(weight)
        if dense.scale is None:
            return dense.weight[index_T]
        return (dense.weight[index_T] * dense.scale[index_T, None]).to(dense.dtype)

    def linear(self, x_TD: Tensor, weight: PackedWeight, residual_TN: Tensor | None = None) -> Tensor:
        """The product, gated or with a residual, rounded once."""
        out = _product(x_TD, _dense(weight))
        if residual_TN is not None:
            out = residual_TN.float() + out
        return out.to(x_TD.dtype)

    def logits(self, x_TD: Tensor, weight: PackedWeight) -> Tensor:
        """The product in float32."""
        return _product(x_TD, _dense(weight))

    def rms_norm(self, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        """Normalizes each row."""
        return rms_norm(x_TD, weight_D, eps)

    def new_cache(
        self, layers: int, blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype
    ) -> Sequence[LayerCache]:
        """Blocks that lie as (G, S, C)."""
        cache_BL2GX = torch.empty((blocks, layers, 2, kv_heads, BLOCK_TOKENS * head_dim), dtype=dtype)
        return [LayerCache(cache_BL2GX[:, layer, 0], cache_BL2GX[:, layer, 1]) for layer in range(layers)]

    def attention_step(self, sequences: Sequence[SequenceRows]) -> Sequence[SequenceRows]:
        """The sequences themselves."""
        return sequences

    def norm_heads(self, qkv_TX: Tensor, heads: int, q_weight_C: Tensor, k_weight_C: Tensor, eps: float) -> None:
        """Queries, then keys."""
        qkv_THC = qkv_TX.view(qkv_TX.shape[0], -1, q_weight_C.shape[0])
        turned = (qkv_THC.shape[1] + heads) // 2
        qkv_THC[:, :heads] = rms_norm(qkv_THC[:, :heads], q_weight_C, eps)
        qkv_THC[:, heads:turned] = rms_norm(qkv_THC[:, heads:turned], k_weight_C, eps)

    def write_cache(
        self,
        step: Sequence[SequenceRows],
        qkv_TX: Tensor,
        heads: int,
        cos_TC: Tensor,
        sin_TC: Tensor,
        cache: LayerCache,
    ) -> None:
        """Rotates in place, then writes each sequence."""
        groups = cache.keys_BGX.shape[1]
        dim = cache.keys_BGX.shape[2] // BLOCK_TOKENS
        qkv_THC = qkv_TX.view(qkv_TX.shape[0], -1, dim)
        turned = heads + groups
        qkv_THC[:, :turned] = apply_rotary(qkv_THC[:, :turned], cos_TC, sin_TC)
        for part in step:
            rows = slice(part.row, part.row + part.rows)
            write_sequence(part, qkv_THC[rows, heads:turned], qkv_THC[rows, turned:], cache)

    def attention(
        self, step: Sequence[SequenceRows], qkv_TX: Tensor, heads: int, cache: LayerCache, rule: AttentionRule
    ) -> Tensor:
        """Sequence by sequence."""
        groups = cache.keys_BGX.shape[1]
        dim = cache.keys_BGX.shape[2] // BLOCK_TOKENS
        q_TGRC = qkv_TX[:, : heads * dim].reshape(qkv_TX.shape[0], groups, heads // groups, dim)
        out = torch.empty_like(q_TGRC)
        for part in step:
            rows = slice(part.row, part.row + part.rows)
            out[rows] = attend_sequence(part, q_TGRC[rows], cache, rule).to(out.dtype)
        return out.reshape(qkv_TX.shape[0], heads * dim)

    def route(self, logits_TE: Tensor, rule: RoutingRule) -> Routing:
        """All tokens at once."""
        return choose_experts(logits_TE.float(), rule)

    def grouped_linear(self, x_GTD: Tensor, weight: PackedWeight) -> Tensor:
        """Group by group."""
        dense = _dense(weight)
        return torch.stack([_product(x_TD, dense.of_expert(group)) for group, x_TD in enumerate(x_GTD)]).to(x_GTD.dtype)

    def experts(
        self, x_TD: Tensor, routing: Routing, gate_up: PackedWeight, down: PackedWeight, residual_TD: Tensor | None
    ) -> Tensor:
        """Expert by expert; then each token's slots in order."""
        tokens, top_k = routing.experts_TK.shape
        rows_RD = self.expert_rows(x_TD.repeat_interleave(top_k, 0), routing.experts_TK.flatten(), gate_up, down)
        places_TK = torch.arange(tokens * top_k).view(tokens, top_k)
        return self.combine(rows_RD, places_TK, routing.weights_TK, residual_TD)

    def expert_rows(self, x_RD: Tensor, experts_R: Tensor, gate_up: PackedWeight, down: PackedWeight) -> Tensor:
        """Expert by expert."""
        up, back = _dense(gate_up), _dense(down)
        out_RD = x_RD.new_empty((x_RD.shape[0], back.weight.shape[1]))
        for expert in sorted(set(experts_R.tolist())):
            mine = experts_R == expert
            hidden = _product(x_RD[mine], up.of_expert(expert)).to(x_RD.dtype)
            out_RD[mine] = _product(hidden, back.of_expert(expert)).to(x_RD.dtype)
        return out_RD

    def combine(self, rows_RD: Tensor, places_TK: Tensor, weights_TK: Tensor, residual_TD: Tensor | None) -> Tensor:
        """Slot by slot."""
        total = (
            rows_RD.new_zeros((places_TK.shape[0], rows_RD.shape[1]), dtype=torch.float32)
            if residual_TD is None
            else residual_TD.float()
        )
        for slot in range(places_TK.shape[1]):
            total = total + rows_RD[places_TK[:, slot].long()].float() * weights_TK[:, slot, None]
        return total.to(rows_RD.dtype)

    def likeliest(self, logits_SV: Tensor, allowed_SO: Tensor | None = None) -> list[int]:
        """Index of each row's largest number."""
        if allowed_SO is not None:
            logits_SV = only_allowed(logits_SV, allowed_SO)
        return [int(index) for index in logits_SV.argmax(dim=-1)]

    def set_num_threads(self, threads: int) -> None:
        """Torch's own threads."""
        torch.set_num_threads(threads)
