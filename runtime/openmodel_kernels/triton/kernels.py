"""The GPU backend: hands tensors on a CUDA device to the Triton kernels.

Importing this module imports Triton, which takes time and is of no use without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from openmodel_kernels.triton import attention, experts, linear, norm, rotary
from openmodel_kernels.triton.routing import in_order, route, sort_by_expert
from openmodel_kernels.triton.step import BLOCK_TOKENS, TritonStep, make_step
from openmodel_kernels.triton.weight import DeviceWeight, device_weight, pick_experts, to_device

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def takes_head_dim(head_dim: int) -> bool:
    """True for heads that the attention is written for."""
    return head_dim % 8 == 0 and head_dim <= attention.MAX_HEAD_DIM


class TritonKernels:
    """The operations of `interface.Kernels`; activations, cache and packed weights live on one device."""

    block_tokens = BLOCK_TOKENS

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            # Triton launches on the current device, whichever the tensors are on.
            torch.cuda.set_device(device)

    @property
    def device(self) -> torch.device:
        """The GPU."""
        return self._device

    @property
    def name(self) -> str:
        """Such as "triton/sm_90"."""
        if self._device.type != "cuda":
            return f"triton/{self._device.type}"
        major, minor = torch.cuda.get_device_capability(self._device)
        return f"triton/sm_{major}{minor}"

    def pack(
        self, weight_ND: Tensor, *, gate: Gate | None = None, bias_N: Tensor | None = None, int8: bool = False
    ) -> DeviceWeight:
        """The weight on the device."""
        return to_device(weight_ND, self._device, gate, bias_N, int8=int8)

    def pick(self, picked: Sequence[tuple[PackedWeight, int]]) -> PackedWeight:
        """Copies them."""
        return pick_experts([(device_weight(weight), expert) for weight, expert in picked])

    def rows(self, weight: PackedWeight, index_T: Tensor) -> Tensor:
        """Rows of the weight, by torch's own copy."""
        packed = device_weight(weight)
        rows_TD = packed.weight.index_select(0, index_T)
        if packed.scale is None:
            return rows_TD
        return (rows_TD * packed.scale.index_select(0, index_T)[:, None]).to(packed.dtype)

    def linear(self, x_TD: Tensor, weight: PackedWeight, residual_TN: Tensor | None = None) -> Tensor:
        """The product with its gate or residual in one pass."""
        return linear.linear(x_TD, device_weight(weight), residual_TN, x_TD.dtype)

    def logits(self, x_TD: Tensor, weight: PackedWeight) -> Tensor:
        """The product in float32."""
        return linear.linear(x_TD, device_weight(weight), None, torch.float32)

    def rms_norm(self, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        """Normalizes each row."""
        return norm.rms_norm(x_TD, weight_D, eps)

    def new_cache(
        self, layers: int, blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype
    ) -> Sequence[LayerCache]:
        """Blocks that lie as (G, S, C); what they hold before they are written is never read.

        Layer after layer: a device has no memory that costs nothing before its use.
        """
        shape = (layers, 2, blocks, kv_heads, BLOCK_TOKENS * head_dim)
        cache_L2BGX = torch.empty(shape, dtype=dtype, device=self._device)
        return [LayerCache(keys_BGX, values_BGX) for keys_BGX, values_BGX in cache_L2BGX]

    def attention_step(self, sequences: Sequence[SequenceRows]) -> TritonStep:
        """Rows and block tables on the device."""
        return make_step(sequences, self._device)

    def norm_heads(self, qkv_TX: Tensor, heads: int, q_weight_C: Tensor, k_weight_C: Tensor, eps: float) -> None:
        """Every head by itself."""
        norm.norm_heads(qkv_TX, heads, q_weight_C, k_weight_C, eps)

    def write_cache(
        self, step: TritonStep, qkv_TX: Tensor, heads: int, cos_TC: Tensor, sin_TC: Tensor, cache: LayerCache
    ) -> None:
        """Rotates in place and writes."""
        rotary.write_cache(step, qkv_TX, heads, cos_TC, sin_TC, cache)

    def attention(self, step: TritonStep, qkv_TX: Tensor, heads: int, cache: LayerCache, rule: AttentionRule) -> Tensor:
        """All sequences and heads at once."""
        return attention.attention(step, qkv_TX, heads, cache, rule)

    def route(self, logits_TE: Tensor, rule: RoutingRule) -> Routing:
        """A token a program."""
        return route(logits_TE, rule)

    def grouped_linear(self, x_GTD: Tensor, weight: PackedWeight) -> Tensor:
        """Groups are experts, and their rows slots in order."""
        groups, rows = x_GTD.shape[:2]
        slots = in_order(groups, rows, x_GTD.device)
        return experts.multiply_experts(x_GTD.flatten(0, 1), device_weight(weight), slots, gather=False).view(
            groups, rows, -1
        )

    def experts(
        self, x_TD: Tensor, routing: Routing, gate_up: PackedWeight, down: PackedWeight, residual_TD: Tensor | None
    ) -> Tensor:
        """Slots sorted by expert, two products of all experts, and each token's slots summed in order."""
        up, back = device_weight(gate_up), device_weight(down)
        slots = sort_by_expert(routing.experts_TK, up.weight.shape[0])
        hidden_RN = experts.multiply_experts(x_TD, up, slots, gather=True)
        out_RD = experts.multiply_experts(hidden_RN, back, slots, gather=False)
        return experts.combine(out_RD, slots.places_TK, routing.weights_TK, residual_TD)

    def expert_rows(self, x_RD: Tensor, experts_R: Tensor, gate_up: PackedWeight, down: PackedWeight) -> Tensor:
        """Rows sorted by expert, two products of all experts, and back in order."""
        up, back = device_weight(gate_up), device_weight(down)
        slots = sort_by_expert(experts_R[:, None], up.weight.shape[0])
        hidden_RN = experts.multiply_experts(x_RD, up, slots, gather=True)
        out_RD = experts.multiply_experts(hidden_RN, back, slots, gather=False)
        return out_RD.index_select(0, slots.places_TK.flatten())

    def combine(self, rows_RD: Tensor, places_TK: Tensor, weights_TK: Tensor, residual_TD: Tensor | None) -> Tensor:
        """A token and a stretch of columns a program."""
        return experts.combine(rows_RD, places_TK, weights_TK, residual_TD)

    def likeliest(self, logits_SV: Tensor, allowed_SO: Tensor | None = None) -> list[int]:
        """Index of each row's largest number: where the host waits for the device."""
        if allowed_SO is not None:
            logits_SV = only_allowed(logits_SV, allowed_SO)
        indices: list[int] = logits_SV.argmax(dim=-1).tolist()
        return indices

    def set_num_threads(self, threads: int) -> None:
        """Torch's own, for what runs on the host."""
        torch.set_num_threads(threads)
