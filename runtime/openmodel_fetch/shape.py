"""A model's numbers, as far as memory goes: counted out of the model itself, which is never allocated.

Knows configurations and models; knows neither files nor devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.engine.memory import activation_bytes
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import Matrix, Numerics

_STORED_BYTES = {None: 2.0, "fp8": 1.0, "mxfp4": 0.5}
# Of a number: a float32 for 128 by 128 of them, a byte for 32.
_SCALE_BYTES = {None: 0.0, "fp8": 4 / 128**2, "mxfp4": 1 / 32}
_WHOLE = ("embedding.weight", "head.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeSummary:
    """Counts are of numbers, not bytes; the memory planner's words (`memory_plan.ModelShape` of the operator)."""

    replicated: int
    """Weights that every rank of an expert-parallel group holds."""
    exact: int
    """Those of them that no quantization touches: routers, norms, biases."""
    embeddings: int
    """Those of them that every rank of a tensor-parallel group holds as well: embedding and head."""
    attention: int
    """Those of them that are attention's matrices, which ranks of a tensor-parallel group divide by heads."""
    expert: int
    """Weights of one expert of one layer."""
    experts: int
    """Routed experts of a layer; 0 for a dense model."""
    routed_layers: int
    experts_per_token: int
    hidden_size: int
    vocab_size: int
    cached_per_token: int
    """What the cache holds of a token, over all layers."""
    kv_heads: int
    """That ranks which share matrices divide among them, and the cache with them."""
    step_per_token: int
    """The most that a step holds of a token on its way through a layer."""
    stored_bytes: float
    """Bytes of a number of a replicated matrix in the checkpoint, on average."""
    stored_expert_bytes: float
    """Bytes of a number of an expert in the checkpoint, with its scales."""

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.replicated + self.routed_layers * self.experts * self.expert

    @property
    def active_parameters(self) -> int:
        """Those that one token meets."""
        return self.replicated + self.routed_layers * self.experts_per_token * self.expert


def summarize_shape(config: ModelConfig) -> ShapeSummary:
    """Counts the weights of a model with this configuration."""
    weights = CausalLM(config, Numerics(ReferenceKernels(), torch.bfloat16)).weights()
    sizes = {name: math.prod(weight.shape) for name, weight in weights.items()}
    routed = sum(size for name, size in sizes.items() if ".experts." in name)
    exact = sum(sizes[name] for name, weight in weights.items() if not isinstance(weight, Matrix) or ".router." in name)
    # Biases of experts are divided among ranks as their matrices are.
    exact -= sum(size for name, size in sizes.items() if ".experts." in name and name.endswith(".bias"))
    experts = config.experts
    # Embedding and head are stored as they are.
    plain = sum(size for name, size in sizes.items() if name in _WHOLE)
    in_eight_bits = sum(sizes.values()) - routed - exact - plain if config.quantization == "fp8" else 0
    stored = 2 - in_eight_bits * (1 - _SCALE_BYTES["fp8"]) / (sum(sizes.values()) - routed - exact)
    return ShapeSummary(
        replicated=sum(sizes.values()) - routed,
        exact=exact,
        embeddings=plain,
        attention=sum(
            sizes[name] for name, weight in weights.items() if isinstance(weight, Matrix) and ".attention." in name
        ),
        expert=routed // (experts.count * len(experts.layers)) if experts else 0,
        experts=experts.count if experts else 0,
        routed_layers=len(experts.layers) if experts else 0,
        experts_per_token=experts.per_token if experts else 0,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        cached_per_token=config.kv_bytes_per_token(1),
        kv_heads=config.attention.kv_heads,
        step_per_token=activation_bytes(config, 1, 0, 2) // 2,
        stored_bytes=stored,
        stored_expert_bytes=_STORED_BYTES[config.quantization] + _SCALE_BYTES[config.quantization],
    )
