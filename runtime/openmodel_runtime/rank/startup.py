"""From a Start message to an engine that can run.

Checks what can be checked before memory is spent: the configuration, then the files, then the weights, then the cache.
"""

from __future__ import annotations

import ctypes
import logging
import platform
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from llguidance import LLTokenizer

from openmodel_kernels.interface import Kernels
from openmodel_kernels.select import select_kernels
from openmodel_kernels.self_check import variant_operations
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.checkpoint.generation_config import read_eos_token_ids
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.engine.engine import Engine
from openmodel_runtime.engine.grammar import GrammarCompiler
from openmodel_runtime.engine.loader import load_model
from openmodel_runtime.engine.model_runner import ModelRunner
from openmodel_runtime.engine.scheduler import Scheduler
from openmodel_runtime.errors import DoesNotFit, InvalidSetting, UnsupportedModel
from openmodel_runtime.models.layers import Numerics, weight_bytes
from openmodel_runtime.models.registry import read_model_config
from openmodel_runtime.parallel.expert_load import ExpertLoad
from openmodel_runtime.parallel.matrix_shard import MatrixShard
from openmodel_runtime.parallel.membership import Membership
from openmodel_runtime.parallel.placement import Slots, plan_placement
from openmodel_runtime.parallel.rehearsal import ExpertRehearsal, MatrixRehearsal
from openmodel_runtime.rank.expert_sharing import ExpertSharing
from openmodel_runtime.rank.limits import expert_memory, step_limits
from openmodel_runtime.rank.matrix_sharing import MatrixSharing
from openmodel_runtime.rank.messages import Fit, GroupShare, Loaded, Start
from openmodel_runtime.rank.regroup import Regrouper
from openmodel_runtime.request import GenerateRequest, SamplingParams
from openmodel_runtime.text.vocabulary import grammar_tokenizer

_log = logging.getLogger(__name__)
# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def _give_back_freed_memory() -> None:
    """Has glibc give back what loading frees: a weight and its packed form differ in size, and would leave gaps.

    Another C library goes on as it does.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _keep_freed_memory() -> None:
    """Has it keep what a step frees for the next: giving it back and taking it anew costs more than small products."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)


@dataclass(frozen=True, slots=True)
class StartedRank:
    """A rank that can run."""

    engine: Engine
    loaded: Loaded
    regrouper: Regrouper | None
    """None for one that is alone."""
    load: ExpertLoad | None = None
    """Where tokens go, of one that shares experts."""


def start_rank(start: Start, weights_read: Callable[[], Fit] = lambda: Fit(ranks=1)) -> StartedRank:
    """Loads the model; StartError says why it can not be served.

    Args:
        start: what to load.
        weights_read: is called when the weights are in, and says how to divide what is left of the memory.
    """
    began = time.monotonic()
    _give_back_freed_memory()
    folder, settings = Path(start.model_path), start.engine
    raw = read_json(folder / "config.json")
    config = read_model_config(ConfigFields(raw))
    dtype = _dtype(settings, config)
    max_model_len = _max_model_len(settings, config)
    kernels = _kernels(settings, config, dtype)
    numerics = Numerics(kernels, dtype, settings.quantization == "int8")
    shard = _shard(start.share, config)
    slots = None if start.share is None or shard else _slots(start.share, config)
    loaded = load_model(folder, config, numerics, slots, shard)
    _keep_freed_memory()
    config = loaded.model.config
    experts = expert_memory(start.share, config, loaded.model, slots)
    limits, bill, room = step_limits(settings, weights_read(), config, kernels, dtype.itemsize, max_model_len, experts)
    _log.info("%s computes; memory: %s", kernels.name, bill)
    caches = kernels.new_cache(
        config.num_layers, limits.num_blocks, config.attention.kv_heads, config.attention.head_dim, dtype
    )
    eos = read_eos_token_ids(folder, raw)
    runner = ModelRunner(loaded.model, caches, eos)
    scheduler = Scheduler(limits, eos)
    engine = Engine(scheduler, runner, lambda: secrets.randbits(64), _rehearsal(slots, shard))
    _warm_up(engine)
    sharing: ExpertSharing | MatrixSharing | None = None
    if shard is not None:
        sharing = MatrixSharing(limits.num_blocks, scheduler.restart)
    elif slots is not None and config.experts is not None:
        sharing = ExpertSharing(loaded.source, config.experts, loaded.model, slots)
    engine.group = None if sharing is None else Membership(0, None)
    return StartedRank(
        engine,
        Loaded(
            architecture=config.architecture,
            parameters=loaded.parameters,
            active_parameters=loaded.active_parameters,
            dtype=str(dtype).removeprefix("torch."),
            kernels=kernels.name,
            weight_bytes=weight_bytes(loaded.model),
            billed_bytes=bill.held + bill.activations + bill.failover + bill.kv_cache,
            activation_bytes=bill.activations,
            failover_bytes=bill.failover,
            kv_cache_bytes=bill.kv_cache,
            vocab_size=config.vocab_size,
            max_model_len=max_model_len,
            kv_cache_tokens=limits.num_blocks * limits.block_tokens,
            load_seconds=time.monotonic() - began,
            experts=config.experts.count if config.experts else 0,
            slots=slots or {},
            room=room,
        ),
        None if sharing is None else Regrouper(sharing),
        sharing.load if isinstance(sharing, ExpertSharing) else None,
    )


def _rehearsal(slots: Mapping[int, Slots] | None, shard: MatrixShard | None) -> Membership | None:
    """A group of a rank alone, of one that will have others."""
    if shard is not None:
        return Membership(0, MatrixRehearsal())
    return None if slots is None else Membership(0, ExpertRehearsal(slots))


def _shard(share: GroupShare | None, config: ModelConfig) -> MatrixShard | None:
    """What the rank has of each matrix; None: all of it."""
    if share is None or not share.tensor:
        return None
    shard = MatrixShard(share.rank, share.size)
    try:
        shard.config(config)
    except ValueError as error:
        raise InvalidSetting(f"parallelism.tensor {share.size}: {error}") from None
    return shard


def _slots(share: GroupShare, config: ModelConfig) -> dict[int, Slots] | None:
    """The experts that the rank holds; None when it is alone, for good."""
    if config.experts is None:
        if share.size == 1:
            return None
        raise InvalidSetting(
            f"parallelism.expert {share.size}: a {config.architecture} has no experts to share: use 1, or more replicas"
        )
    if share.slots is not None:
        return share.slots
    layers, count = sorted(config.experts.layers), config.experts.count
    try:
        return plan_placement(layers, count, share.size, share.redundant).of_rank(share.rank)
    except ValueError as error:
        raise InvalidSetting(f"parallelism.expert, parallelism.redundantExperts: {error}") from None


def grammar_compiler(start: Start, loaded: Loaded) -> GrammarCompiler:
    """For the grammars of requests to the model that was loaded."""
    folder = Path(start.model_path)

    def new_tokenizer() -> LLTokenizer:
        eos = read_eos_token_ids(folder, read_json(folder / "config.json"))
        return grammar_tokenizer(folder, loaded.vocab_size, eos)

    return GrammarCompiler(new_tokenizer)


def _warm_up(engine: Engine) -> None:
    """One token through the whole model: what can not run fails here, and the first caller does not wait for pages."""
    engine.submit(GenerateRequest(request_id=0, prompt=(0,), sampling=SamplingParams(temperature=0.0, max_tokens=1)))
    if failed := engine.step().failed:
        raise DoesNotFit(f"the first step failed: {failed[0].message}; raise the memory limit")


def _kernels(settings: EngineConfig, config: ModelConfig, dtype: torch.dtype) -> Kernels:
    try:
        kernels = select_kernels(settings.kernels, config.attention.head_dim, dtype)
    except ValueError as error:
        raise InvalidSetting(str(error)) from None
    kernels.set_num_threads(settings.threads)
    if settings.check_kernels and (found := variant_operations(kernels, dtype, kernels.device)):
        raise InvalidSetting(
            f"kernels {kernels.name!r}: {', '.join(found)} give a row other bits in other company on this machine: "
            "use --kernels reference, or leave --check-kernels out"
        )
    return kernels


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
