"""What is left of the memory, divided: how much a step may take, the cache holds, and how many experts have room.

Knows the configuration and what the weights take; reads how much memory there is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from openmodel_kernels.interface import Kernels
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.config import EngineConfig
from openmodel_runtime.engine.memory import (
    ExpertMemory,
    Memory,
    MemoryBill,
    activation_bytes,
    kv_cache_blocks,
    read_memory,
    split_for_failover,
)
from openmodel_runtime.engine.scheduler import SchedulerLimits
from openmodel_runtime.models.causal_lm import CausalLM
from openmodel_runtime.models.layers import weight_bytes
from openmodel_runtime.parallel.placement import Slots
from openmodel_runtime.rank.messages import Fit, GroupShare

# Tokens of prompts in a step. More would hardly multiply faster on a CPU, and would hold up everybody's next token. In
# a mixture an expert has but a share of them, and all are read anew each time: twice as many are a sixth faster.
_CPU_PROMPT_TOKENS = 512
_CPU_MIXTURE_PROMPT_TOKENS = 1024


def expert_memory(
    share: GroupShare | None, config: ModelConfig, model: CausalLM, slots: Mapping[int, Slots] | None
) -> ExpertMemory:
    """What the experts of this rank take, and how many it should have room for, should others be lost."""
    if share is None or config.experts is None or not slots:
        return ExpertMemory(0, 0, 0)
    held = max(map(len, slots.values()))
    in_all = sum(weight_bytes(model.expert_layers()[layer]) for layer, experts in slots.items() if experts)
    count, copies = config.experts.count, sum(map(len, slots.values()))
    wanted = tuple(-(-count // (share.size - lost)) for lost in share.spared if 0 < lost < share.size)
    return ExpertMemory(count, held, in_all * len(slots) // max(1, copies), wanted)


def cpu_prompt_tokens(config: ModelConfig) -> int:
    """Tokens of prompts that a step on a CPU takes at most."""
    return _CPU_MIXTURE_PROMPT_TOKENS if config.experts else _CPU_PROMPT_TOKENS


def step_limits(
    settings: EngineConfig,
    fit: Fit,
    config: ModelConfig,
    kernels: Kernels,
    element_bytes: int,
    max_model_len: int,
    experts: ExpertMemory,
) -> tuple[SchedulerLimits, MemoryBill, int]:
    """How much a step may take and the cache hold, what that comes to, and experts of a layer that have room."""
    on_cpu = kernels.device.type == "cpu"
    prompt_tokens = settings.max_num_batched_tokens
    if on_cpu:
        prompt_tokens = min(prompt_tokens, cpu_prompt_tokens(config))
    rows = min(settings.max_num_batched_tokens, prompt_tokens + settings.max_num_seqs)
    activations = activation_bytes(config, rows, settings.max_num_seqs, element_bytes)
    block_bytes = kernels.block_tokens * config.kv_bytes_per_token(element_bytes)
    memory = read_memory() if on_cpu else _device_memory(kernels.device)
    needed = -(-max_model_len // kernels.block_tokens)
    fitting = kv_cache_blocks(memory, settings.memory_utilization, activations, block_bytes, needed, fit.ranks)
    if fit.kv_cache_tokens is not None:
        # What others of a group that is there have not touched yet is theirs all the same.
        fitting = min(fitting, fit.kv_cache_tokens // kernels.block_tokens)
    # More than every sequence at its longest would never be held.
    split = split_for_failover(fitting, block_bytes, needed, settings.max_num_seqs * needed, experts)
    limits = SchedulerLimits(
        max_model_len=max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_prompt_tokens=prompt_tokens,
        num_blocks=split.blocks,
        block_tokens=kernels.block_tokens,
        prefix_caching=settings.prefix_caching,
    )
    usable = int(memory.total * settings.memory_utilization)
    bill = MemoryBill(
        memory.total, usable, memory.used, activations, split.failover, kv_cache=split.blocks * block_bytes
    )
    return limits, bill, split.room if fit.room is None else fit.room


def _device_memory(device: torch.device) -> Memory:
    free, total = torch.cuda.mem_get_info(device)
    return Memory(total, total - free)
