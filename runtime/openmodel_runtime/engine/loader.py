"""From checkpoint files to a model with its weights.

Every tensor of the checkpoint must have a place and every parameter must be filled; what is missing, odd or of another
shape is named. Weights are read and packed one at a time, so there is never a second copy of the model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from openmodel_runtime.checkpoint.direct_read import read_ahead, read_into
from openmodel_runtime.checkpoint.model_config import ExpertsConfig, ModelConfig
from openmodel_runtime.checkpoint.tensor_files import TensorEntry, tensor_entries
from openmodel_runtime.errors import CheckpointError
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.family import WeightPart
from openmodel_runtime.models.layers import Experts, Numerics, Weight
from openmodel_runtime.models.registry import weight_parts
from openmodel_runtime.parallel.matrix_shard import MatrixShard
from openmodel_runtime.parallel.placement import Slots
from openmodel_runtime.parallel.shard import experts_path, layer_of, parts_of_slots

# Tensors that some exporters write and no model here needs: they are computed from the configuration.
_DERIVED = (".rotary_emb.inv_freq",)


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """What a checkpoint has, and where each of its tensors goes."""

    entries: dict[str, TensorEntry]
    parts: list[WeightPart]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that can run, and what it is made of."""

    model: CausalLM
    parameters: int
    active_parameters: int
    """Parameters that one token meets."""
    source: CheckpointSource
    """For reading more of it."""


def load_model(
    folder: Path,
    config: ModelConfig,
    numerics: Numerics,
    slots: Mapping[int, Slots] | None = None,
    shard: MatrixShard | None = None,
) -> LoadedModel:
    """The model with its weights, on the CPU.

    Args:
        folder: the checkpoint.
        config: what it says.
        numerics: what to compute with.
        slots: the experts of each routed layer that this rank holds, and no others are read; None is all.
        shard: what it has of each matrix; None is all.
    """
    source = CheckpointSource(tensor_entries(folder), weight_parts(config))
    check_names(config, source)
    held = None if slots is None else {layer: len(experts) for layer, experts in slots.items()}
    model = CausalLM(config if shard is None else shard.config(config), numerics, held)
    parts = source.parts if slots is None else list(parts_of_slots(source.parts, slots))
    if shard is not None:
        parts = list(shard.parts(config))
    taken = _take_weights(model.weights(), parts, source.entries)
    sizes = {name: _size_in_all(name, tensor, config) for name, tensor in taken}
    if shard is not None:
        sizes = {name: weight.size for name, weight in CausalLM(config, numerics).weights().items()}
    total = sum(sizes.values())
    return LoadedModel(model, total, total - _idle_expert_parameters(sizes, config), source)


def load_experts(
    source: CheckpointSource,
    hidden: int,
    experts: ExpertsConfig,
    numerics: Numerics,
    slots: Mapping[int, Slots],
    threads: int,
) -> dict[int, Experts]:
    """Experts alone, of the layers where any are wanted, in the order in which they are named.

    Each thread takes a layer at a time, and has the disk begin with the one that it or another will take next.
    """
    wanted = {layer: named for layer, named in sorted(slots.items()) if named}
    by_layer: dict[int, list[WeightPart]] = {layer: [] for layer in wanted}
    for part in parts_of_slots(source.parts, wanted) if wanted else ():
        layer = layer_of(part)
        if layer in wanted:
            by_layer[layer].append(part)

    order = list(wanted)

    def ask_for(layers: list[int]) -> None:
        for layer in layers:
            for part in by_layer[layer]:
                for name in part.names:
                    read_ahead(source.entries[name], part.source)

    def load(layer: int) -> Experts:
        next_one = order.index(layer) + threads
        ask_for(order[next_one : next_one + 1])
        made = Experts(numerics, len(wanted[layer]), hidden, experts.expert)
        for _ in _take_weights(made.weights(experts_path(layer)), by_layer[layer], source.entries):
            pass
        return made

    ask_for(order[:threads])
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(wanted, pool.map(load, wanted), strict=True))


def _take_weights(
    weights: Mapping[str, Weight], parts: list[WeightPart], entries: dict[str, TensorEntry]
) -> Iterator[tuple[str, Tensor]]:
    """Reads and packs each weight; yields its name and its plain numbers."""
    by_weight: dict[str, list[WeightPart]] = defaultdict(list)
    for part in parts:
        by_weight[part.parameter].append(part)
    with ExitStack() as stack:
        files: dict[Path, Any] = {}

        def opened(file: Path) -> Any:
            # Only where something is not read directly: opening reads the whole header again.
            if file not in files:
                files[file] = stack.enter_context(safe_open(file, framework="pt"))
            return files[file]

        for name, weight in weights.items():
            tensor = weight.allocate()
            for part in by_weight[name]:
                target = tensor[part.index or ...]
                if part.make is None and read_into(target, entries[part.name], part.source):
                    continue
                read = [_read(opened(entries[source].file), source, part) for source in part.names]
                _fill(target, _make(part, read), part)
            weight.take(tensor)
            yield name, tensor


def _read(file: Any, name: str, part: WeightPart) -> Tensor:
    """The bytes of the part, and no others."""
    tensor: Tensor = file.get_slice(name)[part.source] if part.source else file.get_tensor(name)
    return tensor


def _make(part: WeightPart, read: list[Tensor]) -> Tensor:
    if part.make is None:
        return read[0]
    try:
        return part.make(*read)
    except (IndexError, RuntimeError) as error:
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in read)
        raise CheckpointError(
            f"{' and '.join(part.names)}, of shapes {shapes}, do not fit each other: {error}"
        ) from None


def _size_in_all(name: str, tensor: Tensor, config: ModelConfig) -> int:
    """Parameters of a weight, with those of experts that other ranks hold."""
    if config.experts is None or ".experts." not in name:
        return tensor.numel()
    return config.experts.count * math.prod(tensor.shape[1:])


def _idle_expert_parameters(sizes: dict[str, int], config: ModelConfig) -> int:
    """Parameters of the experts that a token does not go to."""
    if config.experts is None:
        return 0
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    return experts * (config.experts.count - config.experts.per_token) // config.experts.count


def check_names(config: ModelConfig, source: CheckpointSource) -> None:
    """CheckpointError when the checkpoint lacks a tensor that the model needs, or has one that it does not."""
    entries = source.entries
    wanted = {name for part in source.parts for name in part.names}
    missing = sorted(wanted - entries.keys())
    if missing:
        raise CheckpointError(f"the checkpoint lacks {len(missing)} tensors, {missing[0]} first")
    # A tied checkpoint may carry its head all the same.
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    unknown = entries.keys() - wanted - tied
    odd = sorted(name for name in unknown if not name.endswith(_DERIVED) and not name.startswith(config.ignored))
    if odd:
        raise CheckpointError(
            f"the checkpoint has {len(odd)} tensors that a {config.architecture} does not, {odd[0]} first"
        )


def _fill(target: Tensor, tensor: Tensor, part: WeightPart) -> None:
    if target.shape != tensor.shape:
        raise CheckpointError(
            f"tensor {part.name} has shape {tuple(tensor.shape)}, config.json makes it {tuple(target.shape)}"
        )
    if not tensor.is_floating_point():
        raise CheckpointError(f"tensor {part.name} holds {tensor.dtype}, not floating point numbers")
    target.copy_(tensor)
