"""From checkpoint files to a model with its weights.

Every tensor of the checkpoint must have a place and every parameter must be filled; what is missing, odd or of another
shape is named. Weights are copied out of the mapped files and packed one at a time, so there is never a second copy of
the model.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.checkpoint.tensor_files import TensorEntry, tensor_entries
from openmodel_runtime.errors import CheckpointError
from openmodel_runtime.models.blocks import CausalLM
from openmodel_runtime.models.family import WeightPart
from openmodel_runtime.models.layers import Numerics
from openmodel_runtime.models.registry import family_of

# Tensors that some exporters write and no model here needs: they are computed from the configuration.
_DERIVED = (".rotary_emb.inv_freq",)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that can run, and what it is made of."""

    model: CausalLM
    parameters: int
    active_parameters: int
    """Parameters that one token meets."""


def load_model(folder: Path, config: ModelConfig, numerics: Numerics) -> LoadedModel:
    """The model with its weights, on the CPU."""
    family = family_of(config.architecture)
    entries = tensor_entries(folder)
    parts = list(family.weights(config))
    _check_names(config, parts, entries)
    model = family.build(config, numerics)
    by_weight: dict[str, list[WeightPart]] = defaultdict(list)
    for part in parts:
        by_weight[part.parameter].append(part)
    sizes: dict[str, int] = {}
    with ExitStack() as stack:
        files = {file: stack.enter_context(safe_open(file, framework="pt")) for file in _files(parts, entries)}
        for name, weight in model.weights().items():
            tensor = weight.allocate()
            for part in by_weight[name]:
                _fill(tensor[part.index or ...], files[entries[part.name].file].get_tensor(part.name), part)
            sizes[name] = tensor.numel()
            weight.take(tensor)
    total = sum(sizes.values())
    return LoadedModel(model, total, total - _idle_expert_parameters(sizes, config))


def _files(parts: list[WeightPart], entries: dict[str, TensorEntry]) -> list[Path]:
    return sorted({entries[part.name].file for part in parts})


def _idle_expert_parameters(sizes: dict[str, int], config: ModelConfig) -> int:
    """Parameters of the experts that a token does not go to."""
    if not config.num_experts:
        return 0
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    return experts * (config.num_experts - config.num_experts_per_tok) // config.num_experts


def _check_names(config: ModelConfig, parts: list[WeightPart], entries: dict[str, TensorEntry]) -> None:
    wanted = {part.name for part in parts}
    missing = sorted(wanted - entries.keys())
    if missing:
        raise CheckpointError(f"the checkpoint lacks {len(missing)} tensors, {missing[0]} first")
    # A tied checkpoint may carry its head all the same.
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    odd = sorted(name for name in entries.keys() - wanted - tied if not name.endswith(_DERIVED))
    if odd:
        raise CheckpointError(
            f"the checkpoint has {len(odd)} tensors that a {config.architecture} does not, {odd[0]} first"
        )


def _fill(target: torch.Tensor, tensor: torch.Tensor, part: WeightPart) -> None:
    if target.shape != tensor.shape:
        raise CheckpointError(
            f"tensor {part.name} has shape {tuple(tensor.shape)}, config.json makes it {tuple(target.shape)}"
        )
    if not tensor.is_floating_point():
        raise CheckpointError(f"tensor {part.name} holds {tensor.dtype}, not floating point numbers")
    target.copy_(tensor)
