"""What a checkpoint is, from its configuration and the headers of its files: the data itself is not read.

Knows what the engine would accept: a checkpoint that passes here is refused later for damaged data or for memory only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openmodel_fetch.shape import ShapeSummary, summarize_shape
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.checkpoint.model_card import card_license
from openmodel_runtime.checkpoint.tensor_files import tensor_entries
from openmodel_runtime.engine.loader import CheckpointSource, check_names
from openmodel_runtime.models.registry import read_model_config, weight_parts
from openmodel_runtime.rank.limits import cpu_prompt_tokens

_MOST_LICENSE = 256
VERSION = 1
"""Of the summary's form: the operator looks again at what was inspected in another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The summary that the operator plans with; a few hundred bytes of JSON."""

    version: int
    architecture: str
    dtype: str
    """The configuration's own: what `engine.dtype: auto` means."""
    quantization: str
    """fp8 or mxfp4; "" for plain numbers."""
    license: str
    """As the model card has it; "" when it says nothing."""
    parameters: int
    active_parameters: int
    """That one token meets."""
    max_model_len: int
    """Positions that the model was made for."""
    file_bytes: int
    """Of all tensors, as they are stored."""
    prompt_tokens_on_cpu: int
    """Tokens of prompts that a step on a CPU takes at most."""
    shape: ShapeSummary


def inspect_checkpoint(folder: Path) -> Inspection:
    """Looks at the checkpoint in this folder; StartError says what is wrong with it."""
    config = read_model_config(ConfigFields(read_json(folder / "config.json")))
    entries = tensor_entries(folder)
    check_names(config, CheckpointSource(entries, weight_parts(config)))
    shape = summarize_shape(config)
    return Inspection(
        version=VERSION,
        architecture=config.architecture,
        dtype=config.torch_dtype,
        quantization=config.quantization or "",
        license=card_license(folder)[:_MOST_LICENSE],
        parameters=shape.parameters,
        active_parameters=shape.active_parameters,
        max_model_len=config.max_position_embeddings,
        file_bytes=sum(entry.end - entry.begin for entry in entries.values()),
        prompt_tokens_on_cpu=cpu_prompt_tokens(config),
        shape=shape,
    )
