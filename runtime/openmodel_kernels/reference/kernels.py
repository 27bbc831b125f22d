"""The reference backend: plain torch on any device, slow and plain to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu

from openmodel_kernels.interface import LayerCache, PackedWeight, Routing, SequenceRows
from openmodel_kernels.reference.attention import BLOCK_TOKENS, attend_sequence, write_sequence
from openmodel_kernels.reference.linear import fixed_shape_linear
from openmodel_kernels.reference.norm import rms_norm
from openmodel_kernels.reference.rotary import apply_rotary


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """A weight as it came."""

    weight: Tensor
    gated: bool

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.weight.nbytes


def _dense(weight: PackedWeight) -> DenseWeight:
    assert isinstance(weight, DenseWeight)
    return weight


class ReferenceKernels:
    """The operations of `interface.Kernels`."""

    name = "reference"
    block_tokens = BLOCK_TOKENS
    device = torch.device("cpu")

    def pack(self, weight_ND: Tensor, *, gated: bool = False) -> DenseWeight:
        """The weight itself."""
        return DenseWeight(weight_ND, gated)

    def rows(self, weight: PackedWeight, index_T: Tensor) -> Tensor:
        """Rows of the weight."""
        return _dense(weight).weight[index_T]

    def linear(self, x_TD: Tensor, weight: PackedWeight, residual_TN: Tensor | None = None) -> Tensor:
        """The product, gated or with a residual, rounded once."""
        dense = _dense(weight)
        return self._product(x_TD, dense.weight, dense.gated, residual_TN)

    def logits(self, x_TD: Tensor, weight: PackedWeight) -> Tensor:
        """The product in float32."""
        return fixed_shape_linear(x_TD, _dense(weight).weight)

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
        self, step: Sequence[SequenceRows], qkv_TX: Tensor, heads: int, cache: LayerCache, scale: float
    ) -> Tensor:
        """Sequence by sequence."""
        groups = cache.keys_BGX.shape[1]
        dim = cache.keys_BGX.shape[2] // BLOCK_TOKENS
        q_TGRC = qkv_TX[:, : heads * dim].reshape(qkv_TX.shape[0], groups, heads // groups, dim)
        out = torch.empty_like(q_TGRC)
        for part in step:
            rows = slice(part.row, part.row + part.rows)
            out[rows] = attend_sequence(part, q_TGRC[rows], cache, scale).to(out.dtype)
        return out.reshape(qkv_TX.shape[0], heads * dim)

    def route(self, logits_TE: Tensor, top_k: int, *, renormalize: bool) -> Routing:
        """Softmax, then the best by a stable sort."""
        probabilities_TE = torch.softmax(logits_TE.float(), dim=-1)
        weights_TE, experts_TE = probabilities_TE.sort(dim=-1, descending=True, stable=True)
        weights_TK = weights_TE[:, :top_k]
        if renormalize:
            weights_TK = weights_TK / weights_TK.sum(dim=-1, keepdim=True)
        return Routing(experts_TE[:, :top_k].int().contiguous(), weights_TK.contiguous())

    def experts(
        self, x_TD: Tensor, routing: Routing, gate_up: PackedWeight, down: PackedWeight, residual_TD: Tensor | None
    ) -> Tensor:
        """Expert by expert; then each token's slots in order."""
        up, back = _dense(gate_up).weight, _dense(down).weight
        slots_TKD = x_TD.new_empty((*routing.experts_TK.shape, back.shape[1]))
        for expert in sorted(set(routing.experts_TK.flatten().tolist())):
            token, slot = (routing.experts_TK == expert).nonzero(as_tuple=True)
            hidden = self._product(x_TD[token], up[expert], True, None)
            slots_TKD[token, slot] = self._product(hidden, back[expert], False, None)
        total = x_TD.new_zeros(x_TD.shape, dtype=torch.float32) if residual_TD is None else residual_TD.float()
        for slot in range(slots_TKD.shape[1]):
            total = total + slots_TKD[:, slot].float() * routing.weights_TK[:, slot, None]
        return total.to(x_TD.dtype)

    def likeliest(self, logits_SV: Tensor) -> list[int]:
        """Index of each row's largest number."""
        return [int(index) for index in logits_SV.argmax(dim=-1)]

    def set_num_threads(self, threads: int) -> None:
        """Torch's own threads."""
        torch.set_num_threads(threads)

    @staticmethod
    def _product(x_TD: Tensor, weight_ND: Tensor, gated: bool, residual_TN: Tensor | None) -> Tensor:
        out = fixed_shape_linear(x_TD, weight_ND)
        if gated:
            gate, up = out.chunk(2, dim=-1)
            out = silu(gate) * up
        if residual_TN is not None:
            out = residual_TN.float() + out
        return out.to(x_TD.dtype)
