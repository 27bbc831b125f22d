"""From checkpoint files to a model with its weights.

Every tensor of the checkpoint must have a place and every parameter must be filled; what is missing, odd or of another
shape is named. Tensors are copied out of the mapped files one at a time and packed one at a time, so there is never a
second copy of the model.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.checkpoint.tensor_files import TensorEntry, tensor_entries
from openmodel_runtime.errors import CheckpointError
from openmodel_runtime.models.blocks import CausalLM
from openmodel_runtime.models.family import WeightPart
from openmodel_runtime.models.layers import Numerics, pack_weights
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
    by_file: dict[Path, list[WeightPart]] = defaultdict(list)
    for part in parts:
        by_file[entries[part.name].file].append(part)
    parameters = model.weights()
    for file, wanted in sorted(by_file.items()):
        with safe_open(file, framework="pt") as tensors:
            for part in wanted:
                _fill(parameters[part.parameter][part.index or ...], tensors.get_tensor(part.name), part)
    total = sum(parameter.numel() for parameter in parameters.values())
    idle = _idle_expert_parameters(parameters, config)
    parameters.clear()
    pack_weights(model)
    return LoadedModel(model, total, total - idle)


def _idle_expert_parameters(parameters: dict[str, torch.Tensor], config: ModelConfig) -> int:
    """Parameters of the experts that a token does not go to."""
    if not config.num_experts:
        return 0
    experts = sum(parameter.numel() for name, parameter in parameters.items() if ".experts." in name)
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
