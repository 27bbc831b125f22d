"""What the operations mean, whoever computes them.

T rows of a step (tokens of all its sequences, one after another), D input and N output dimension of a linear layer,
H query heads, G key/value heads, C head dimension, E experts, K experts a token, V vocabulary, L layers.

Every operation is row-invariant: a row of the result depends on that row of the input alone (attention: on the row and
the cached tokens before it), bit for bit. This is what makes prefill equal decode, and a request's answer independent
of its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SequenceRows:
    """One sequence's part of a step."""

    row: int
    """Its first row in the step."""
    rows: int
    """How many rows it has."""
    context: int
    """Tokens of it that are cached before this step."""
    blocks: Sequence[int]
    """Blocks of the cache that hold its tokens, this step's included, in order."""


class Gate(StrEnum):
    """How a gated product joins its halves, by vLLM's names."""

    SILU = "silu"
    """silu(gate) * up (Shazeer, 2020)."""
    GELU_TANH = "gelu_tanh"
    """gelu(gate) * up, gelu by its tanh approximation."""
    SWIGLU_OAI = "swigluoai"
    """gpt-oss: gate * sigmoid(1.702 gate) * (up + 1), gate at most 7, up from -7 to 7."""


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """What attention does with its scores."""

    scale: float
    """Scores are multiplied with it."""
    window: int | None = None
    """Tokens that a token sees, itself the last; None is all before it."""
    softcap: float | None = None
    """Scores become softcap * tanh(score / softcap)."""
    sinks_H: Tensor | None = None
    """float32: a score a query head that takes its share of the softmax and has no value (Xiao et al., 2023)."""


class Scoring(StrEnum):
    """An expert's score for a token, by vLLM's names."""

    SOFTMAX = "softmax"
    """Over the logits of all experts."""
    SIGMOID = "sigmoid"
    """Of the expert's own logit."""


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """How a token's experts are chosen and weighed."""

    top_k: int
    """K."""
    scoring: Scoring = Scoring.SOFTMAX
    renormalize: bool = True
    """Weights are divided by their sum."""
    scale: float = 1.0
    """Weights are multiplied with it, last."""
    groups: int = 1
    """Experts stand in so many groups of one size (DeepSeek-V2, 2024)."""
    top_groups: int = 1
    """Only experts of the best groups are chosen."""
    group_best: int = 1
    """A group is as good as so many of its best experts together."""
    bias_E: Tensor | None = None
    """float32: added to the scores where experts are chosen, not where they are weighed (DeepSeek-V3, 2024)."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Which experts a token goes to, and with which weight."""

    experts_TK: Tensor
    """int32, the best expert first."""
    weights_TK: Tensor
    """float32."""


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, in blocks of `block_tokens` tokens; the order inside a block is the backend's."""

    keys_BGX: Tensor
    values_BGX: Tensor


class PackedWeight(Protocol):
    """A weight in the form that a backend multiplies with."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""


class Kernels(Protocol):
    """The operations for one kind of device."""

    @property
    def name(self) -> str:
        """Backend and capability; part of the numerics fingerprint."""

    @property
    def device(self) -> torch.device:
        """Where tensors must lie."""

    @property
    def block_tokens(self) -> int:
        """Tokens of a key/value block."""

    def pack(
        self, weight_ND: Tensor, *, gate: Gate | None = None, bias_N: Tensor | None = None, int8: bool = False
    ) -> PackedWeight:
        """A weight (N, D), or one an expert (E, N, D), to multiply with.

        Args:
            weight_ND: the numbers.
            gate: the upper half of the rows are gates, the lower half ups, and the product joins them.
            bias_N: added to the product, before the gate; (N,) or (E, N).
            int8: keep the numbers as whole ones from -127 to 127 with a factor a row. They are multiplied with what
                the dtype holds, which is exact, and the sum with the factor.
        """

    def pick(self, picked: Sequence[tuple[PackedWeight, int]]) -> PackedWeight:
        """Experts of packed weights (E, N, D) of one kind, each by its weight and its place there, side by side."""

    def rows(self, weight: PackedWeight, index_T: Tensor) -> Tensor:
        """Rows of a packed weight, (T, D): an embedding that shares its weight with the head."""

    def linear(self, x_TD: Tensor, weight: PackedWeight, residual_TN: Tensor | None = None) -> Tensor:
        """x times the weight's transpose, with bias, plus the residual, (T, N) or (T, N / 2) with a gate.

        Sums in float32, rounded once.
        """

    def logits(self, x_TD: Tensor, weight: PackedWeight) -> Tensor:
        """The same product in float32, (T, N)."""

    def rms_norm(self, x_TD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        """Root-mean-square normalization (Zhang and Sennrich, 2019), computed in float32."""

    def new_cache(
        self, layers: int, blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype
    ) -> Sequence[LayerCache]:
        """An empty cache; all layers of a block lie together, so that what is not used yet costs nothing."""

    def attention_step(self, sequences: Sequence[SequenceRows]) -> Any:
        """What attention needs to know of a step, made once for all layers."""

    def norm_heads(self, qkv_TX: Tensor, heads: int, q_weight_C: Tensor, k_weight_C: Tensor, eps: float) -> None:
        """Normalizes each query and key head over C, in place (Henry et al., 2020); see `rms_norm`, `write_cache`."""

    def write_cache(
        self, step: Any, qkv_TX: Tensor, heads: int, cos_TC: Tensor, sin_TC: Tensor, cache: LayerCache
    ) -> None:
        """Rotates queries and keys in place, and writes keys and values to their blocks.

        Args:
            step: from `attention_step`.
            qkv_TX: queries, keys and values side by side, (T, (H + 2G) * C).
            heads: H.
            cos_TC: cosines of each row's angles, float32, (T, C / 2) or fewer: what lies beyond is not rotated.
            sin_TC: the sines.
            cache: the layer's cache.
        """

    def attention(self, step: Any, qkv_TX: Tensor, heads: int, cache: LayerCache, rule: AttentionRule) -> Tensor:
        """Causal softmax attention of each row over its sequence's cached tokens up to itself, (T, H * C).

        Grouped queries: query head h reads key/value head h * G // H.
        """

    def route(self, logits_TE: Tensor, rule: RoutingRule) -> Routing:
        """Scores all experts in float32 and takes the best K; the lower expert, or group, wins a tie."""

    def grouped_linear(self, x_GTD: Tensor, weight: PackedWeight) -> Tensor:
        """Each group's rows times the group's own weight (G, N, D), (G, T, N)."""

    def experts(
        self, x_TD: Tensor, routing: Routing, gate_up: PackedWeight, down: PackedWeight, residual_TD: Tensor | None
    ) -> Tensor:
        """The residual plus the weighted sum of each token's experts, added in the order of its slots, (T, D)."""

    def expert_rows(self, x_RD: Tensor, experts_R: Tensor, gate_up: PackedWeight, down: PackedWeight) -> Tensor:
        """Each row through the expert of its number, int32, (R, D)."""

    def combine(self, rows_RD: Tensor, places_TK: Tensor, weights_TK: Tensor, residual_TD: Tensor | None) -> Tensor:
        """The residual plus each token's rows, found at its places, weighted and added in the order of its slots.

        With `expert_rows` it is `experts`, to the bit.
        """

    def likeliest(self, logits_SV: Tensor, allowed_SO: Tensor | None = None) -> list[int]:
        """The token with the largest logit of each row; the lowest id wins a tie.

        Where `allowed_SO` is given, on the host, uint8, only tokens whose bit is set, least significant first.
        """

    def set_num_threads(self, threads: int) -> None:
        """Threads that the operations use."""
