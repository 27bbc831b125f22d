"""A model as the memory planner sees it, counted out of the model itself."""

from __future__ import annotations

import math

import torch

from openmodel_kernels.reference.kernels import ReferenceKernels
from openmodel_operator.memory_plan import ModelShape
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.engine.memory import activation_bytes
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import Matrix, Numerics

_STORED_BYTES = {None: 2.0, "fp8": 1.0, "mxfp4": 0.5}
# Of a number: a float32 for 128 by 128 of them, a byte for 32.
_SCALE_BYTES = {None: 0.0, "fp8": 4 / 128**2, "mxfp4": 1 / 32}


def shape_of(config: ModelConfig) -> ModelShape:
    """Counts of numbers."""
    weights = CausalLM(config, Numerics(ReferenceKernels(), torch.bfloat16)).weights()
    sizes = {name: math.prod(weight.shape) for name, weight in weights.items()}
    routed = sum(size for name, size in sizes.items() if ".experts." in name)
    exact = sum(sizes[name] for name, weight in weights.items() if not isinstance(weight, Matrix) or ".router." in name)
    # Biases of experts are divided among ranks as their matrices are.
    exact -= sum(size for name, size in sizes.items() if ".experts." in name and name.endswith(".bias"))
    experts = config.experts
    # Embedding and head are stored as they are.
    plain = sum(size for name, size in sizes.items() if name in ("embedding.weight", "head.weight"))
    in_eight_bits = sum(sizes.values()) - routed - exact - plain if config.quantization == "fp8" else 0
    stored = 2 - in_eight_bits * (1 - _SCALE_BYTES["fp8"]) / (sum(sizes.values()) - routed - exact)
    return ModelShape(
        replicated=sum(sizes.values()) - routed,
        exact=exact,
        expert=routed // (experts.count * len(experts.layers)) if experts else 0,
        experts=experts.count if experts else 0,
        routed_layers=len(experts.layers) if experts else 0,
        experts_per_token=experts.per_token if experts else 0,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        cached_per_token=config.kv_bytes_per_token(1),
        step_per_token=activation_bytes(config, 1, 0, 2) // 2,
        stored_bytes=stored,
        stored_expert_bytes=_STORED_BYTES[config.quantization] + _SCALE_BYTES[config.quantization],
    )
