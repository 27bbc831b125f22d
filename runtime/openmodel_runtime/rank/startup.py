"""From a Start message to an engine that can run.

Checks what can be checked before memory is spent: the configuration, then the files, then the weights, then the cache.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from openmodel_runtime.checkpoint.generation_config import read_eos_token_ids
from openmodel_runtime.checkpoint.model_config import ModelConfig, parse_model_config, read_json
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.engine.engine import Engine
from openmodel_runtime.engine.loader import load_model
from openmodel_runtime.engine.memory import kv_cache_tokens, read_memory
from openmodel_runtime.engine.model_runner import ModelRunner
from openmodel_runtime.engine.scheduler import Scheduler
from openmodel_runtime.errors import InvalidSetting, UnsupportedModel
from openmodel_runtime.models.blocks import CausalLM
from openmodel_runtime.rank.messages import Loaded, Start

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def build_engine(start: Start) -> tuple[Engine, Loaded]:
    """Loads the model; StartError says why it can not be served."""
    began = time.monotonic()
    folder, settings = Path(start.model_path), start.engine
    raw = read_json(folder / "config.json")
    config = parse_model_config(raw)
    dtype = _dtype(settings, config)
    max_model_len = _max_model_len(settings, config)
    torch.set_num_threads(settings.threads)
    model = load_model(folder, config, dtype)
    cache_tokens = kv_cache_tokens(
        read_memory(),
        settings.memory_utilization,
        config.kv_bytes_per_token(dtype.itemsize),
        max_model_len,
    )
    eos = read_eos_token_ids(folder, raw)
    scheduler = Scheduler(
        max_model_len=max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        kv_cache_tokens=cache_tokens,
        eos_token_ids=eos,
    )
    engine = Engine(scheduler, ModelRunner(model, eos))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return engine, Loaded(
        architecture=config.architecture,
        parameters=parameters,
        active_parameters=parameters - _idle_expert_parameters(model, config),
        dtype=str(dtype).removeprefix("torch."),
        weight_bytes=sum(parameter.nbytes for parameter in model.parameters()),
        vocab_size=config.vocab_size,
        max_model_len=max_model_len,
        kv_cache_tokens=cache_tokens,
        load_seconds=time.monotonic() - began,
    )


def _dtype(settings: EngineConfig, config: ModelConfig) -> torch.dtype:
    name = config.torch_dtype if settings.dtype == "auto" else settings.dtype
    try:
        return _DTYPES[name]
    except KeyError:
        raise UnsupportedModel(
            f"config.json: dtype {name!r} is not supported; set engine.dtype to one of {', '.join(_DTYPES)}"
        ) from None


def _max_model_len(settings: EngineConfig, config: ModelConfig) -> int:
    longest = config.max_position_embeddings
    if settings.max_model_len is not None and settings.max_model_len > longest:
        raise InvalidSetting(
            f"engine.maxModelLen {settings.max_model_len} is more than the {longest} positions the model was made for"
        )
    return settings.max_model_len or longest


def _idle_expert_parameters(model: CausalLM, config: ModelConfig) -> int:
    """Parameters of the experts that a token does not go to."""
    if not config.num_experts:
        return 0
    experts = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.endswith(("feed_forward.gate_up", "feed_forward.down"))
    )
    return experts * (config.num_experts - config.num_experts_per_tok) // config.num_experts
