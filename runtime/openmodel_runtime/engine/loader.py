"""From checkpoint files to a model with its weights.

Every tensor of the checkpoint must have a place and every parameter must be filled; what is missing, odd or of another
shape is named. Tensors are copied out of the mapped files one at a time, so there is never a second copy of the model.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch
from safetensors import safe_open

from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.checkpoint.tensor_files import TensorEntry, tensor_entries
from openmodel_runtime.errors import CheckpointError
from openmodel_runtime.models.blocks import CausalLM
from openmodel_runtime.models.family import WeightPart
from openmodel_runtime.models.registry import family_of

# Tensors that some exporters write and no model here needs: they are computed from the configuration.
_DERIVED = (".rotary_emb.inv_freq",)


def load_model(folder: Path, config: ModelConfig, dtype: torch.dtype) -> CausalLM:
    """The model with its weights in `dtype`, on the CPU."""
    family = family_of(config.architecture)
    entries = tensor_entries(folder)
    parts = list(family.weights(config))
    _check_names(config, parts, entries)
    with torch.device("meta"):
        model = family.build(config)
    model.to_empty(device="cpu")
    model.to(dtype)
    by_file: dict[Path, list[WeightPart]] = defaultdict(list)
    for part in parts:
        by_file[entries[part.name].file].append(part)
    parameters = dict(model.named_parameters())
    for file, wanted in sorted(by_file.items()):
        with safe_open(file, framework="pt") as tensors:
            for part in wanted:
                _fill(parameters[part.parameter].data[part.index or ...], tensors.get_tensor(part.name), part)
    return model


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
