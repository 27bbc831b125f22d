"""What a model is made of, whatever family it comes from.

Families read it out of `config.json`; blocks, planner and scheduler read nothing else. Knows no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RotaryScaling(StrEnum):
    """How rotary frequencies are stretched for sequences longer than the model was first trained on."""

    NONE = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    YARN = "yarn"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryConfig:
    """Rotary position embedding (Su et al., 2021)."""

    theta: float
    """Base of the frequencies."""
    dim: int
    """Elements of a head that are rotated."""
    scaling: RotaryScaling = RotaryScaling.NONE
    factor: float = 1.0
    """How much longer sequences get."""
    original_positions: int = 0
    """Longest sequence of the first training."""
    low_freq_factor: float = 1.0
    """llama3: waves longer than the original positions over this are stretched in full."""
    high_freq_factor: float = 4.0
    """llama3: waves shorter than the original positions over this are left."""
    beta_fast: float = 32.0
    """yarn: waves with more turns than this over the original positions are left."""
    beta_slow: float = 1.0
    """yarn: waves with fewer turns than this are stretched in full."""
    truncate: bool = True
    """yarn: the range between is cut to whole elements."""
    attention_factor: float = 1.0
    """Cosines and sines are multiplied with it."""
    query_beta: float = 0.0
    """Queries are raised by 1 + this * ln(1 + floor(position / original positions)), as in Llama 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConfig:
    """Multi-head latent attention (DeepSeek-V2, 2024): all heads share one compressed key, which is the value too."""

    kv_rank: int
    """Width of the compressed key and value."""
    rotary_dim: int
    """Width of the part of queries and keys that has positions; all heads share the key's."""
    head_dim: int
    """Width of a head's query without positions."""
    value_dim: int
    """Width of a head's value."""
    query_rank: int | None
    """Width that queries are compressed to on their way; None is not at all."""

    @property
    def cached_dim(self) -> int:
        """What the cache holds of a token."""
        return self.rotary_dim + self.kv_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig:
    """Grouped-query attention; with `latent`, its heads are as the cache sees them."""

    heads: int
    """Query heads."""
    kv_heads: int
    """Key/value heads."""
    head_dim: int
    """Width of one head."""
    scale: float
    """Scores are multiplied with it."""
    windows: tuple[int | None, ...]
    """Tokens that a token of each layer sees; None is all before it."""
    qkv_bias: bool = False
    out_bias: bool = False
    norm_heads: bool = False
    """Queries and keys are normalized head by head before they are rotated."""
    sinks: bool = False
    """Every query head has a score of its own that takes its share of the softmax."""
    softcap: float | None = None
    """Scores stay below it."""
    latent: LatentConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardConfig:
    """A gated feed-forward block."""

    intermediate_size: int
    """Width between the products."""
    gate: str = "silu"
    """One of the kernels' gates."""
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsConfig:
    """A mixture of experts, each a gated feed-forward block."""

    count: int
    """Experts of a layer."""
    per_token: int
    """Experts that a token goes to."""
    expert: FeedForwardConfig
    layers: frozenset[int]
    """Layers that have experts; the others are dense."""
    renormalize: bool = True
    """Weights of a token's experts are divided by their sum."""
    router_bias: bool = False
    scoring: str = "softmax"
    """One of the kernels' scorings."""
    scale: float = 1.0
    """Weights are multiplied with it."""
    groups: int = 1
    """Experts stand in so many groups."""
    top_groups: int = 1
    """A token's experts come from so many groups."""
    group_best: int = 1
    """A group is as good as so many of its best experts together."""
    selection_bias: bool = False
    """A number an expert is added to its score where experts are chosen."""
    shared: FeedForwardConfig | None = None
    """A feed-forward block that every token goes to beside its experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder-only model."""

    architecture: str
    """First entry of `architectures`."""
    hidden_size: int
    """Width of the residual stream."""
    num_layers: int
    """Number of blocks."""
    vocab_size: int
    """Rows of the embedding."""
    max_position_embeddings: int
    """Longest sequence the model was made for, tokens."""
    rms_norm_eps: float
    """Added to the mean square in each norm."""
    tie_word_embeddings: bool
    """True: the head is the embedding."""
    torch_dtype: str
    """Dtype of the stored weights."""
    attention: AttentionConfig
    rotary: RotaryConfig
    feed_forward: FeedForwardConfig
    """Of the layers without experts."""
    experts: ExpertsConfig | None = None
    quantization: str | None = None
    """Method that the checkpoint's weights are stored with."""
    norms_after: bool = False
    """What attention and feed-forward give is normalized once more before it is added to the residual stream."""
    embedding_scale: float = 1.0
    """Embeddings are multiplied with it."""
    logits_scale: float = 1.0
    """Logits are multiplied with it."""
    ignored: tuple[str, ...] = ()
    """Beginnings of the names of checkpoint tensors that serving does not need."""

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of keys and values of one token over all layers."""
        return 2 * self.num_layers * self.attention.kv_heads * self.attention.head_dim * element_bytes

    @property
    def routed_layers(self) -> frozenset[int]:
        """Layers that have experts."""
        return frozenset() if self.experts is None else self.experts.layers
