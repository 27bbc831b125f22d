"""Mixtral: Llama's attention, and a mixture of experts in every block."""

from __future__ import annotations

from collections.abc import Iterator

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.blocks import CausalLM, RoutedFeedForward
from openmodel_runtime.models.family import ModelFamily, WeightPart
from openmodel_runtime.models.llama import attention_and_norm_weights


def _weights(config: ModelConfig) -> Iterator[WeightPart]:
    yield from attention_and_norm_weights(config)
    width = config.intermediate_size
    for layer in range(config.num_layers):
        theirs = f"model.layers.{layer}.block_sparse_moe"
        ours = f"blocks.{layer}.feed_forward"
        yield WeightPart(f"{theirs}.gate.weight", f"{ours}.router.weight")
        for expert in range(config.num_experts):
            name = f"{theirs}.experts.{expert}"
            # w1 is the gate, w3 the up projection.
            yield WeightPart(f"{name}.w1.weight", f"{ours}.experts.gate_up.weight", (expert, slice(0, width)))
            yield WeightPart(f"{name}.w3.weight", f"{ours}.experts.gate_up.weight", (expert, slice(width, None)))
            yield WeightPart(f"{name}.w2.weight", f"{ours}.experts.down.weight", (expert,))


MIXTRAL = ModelFamily(build=lambda config, numerics: CausalLM(config, numerics, RoutedFeedForward), weights=_weights)
