"""The planner's table for published models: `python -m families.plans`, in `tests`, writes it."""

from __future__ import annotations

import torch
import transformers

from families.pages import DOCS, page_with
from families.published import GROK_1, MODELS
from families.shapes import shape_of
from openmodel_operator.memory_plan import DoesNotFit, MemoryRequest, plan_memory
from openmodel_runtime.checkpoint.config_fields import ConfigFields
from openmodel_runtime.checkpoint.model_config import ModelConfig
from openmodel_runtime.models.registry import read_model_config

PAGE = DOCS / "memory-plans.md"
_GIB = 1 << 30
_DEVICE_GIB = 80
_STORED = {
    "gpt-oss-120b": {"quant_method": "mxfp4"},
    "DeepSeek-V3": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}


def config_of(name: str) -> ModelConfig:
    """A published model's configuration, as its family reads it."""
    if name == "Grok-1":
        return read_model_config(ConfigFields(GROK_1))
    published = MODELS[name]
    with torch.device("meta"):
        config = published.config(**published.options)
    architecture = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[published.config].__name__
    stored = {"quantization_config": _STORED[name]} if name in _STORED else {}
    return read_model_config(ConfigFields(config.to_dict() | {"architectures": [architecture]} | stored))


def request(ranks: int, weight_bytes: float, max_model_len: int) -> MemoryRequest:
    """So many devices of 80 GiB, a pod each eight, vLLM's defaults."""
    return MemoryRequest(
        memory_bytes=_DEVICE_GIB * _GIB,
        memory_utilization=0.9,
        ranks=ranks,
        ranks_per_pod=min(ranks, 8),
        max_model_len=max_model_len,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        weight_bytes=weight_bytes,
    )


def table() -> str:
    """A row for each model, quantization and number of ranks."""
    lines = [
        "| Model | Weights | Ranks | Reads | Weights a rank | Step and exchange | Failover | Cached tokens a rank "
        "| Survives |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, length in (("Mixtral-8x7B", 32768), ("Grok-1", 8192), ("gpt-oss-120b", 131072), ("DeepSeek-V3", 131072)):
        shape = shape_of(config_of(name))
        for stored, weight_bytes in (("bfloat16", 2.0), ("int8", 1.0)):
            for ranks in (1, 2, 4, 8, 16):
                plan = plan_memory(shape, request(ranks, weight_bytes, length))
                head = f"| {name} | {stored} | {ranks} |"
                if isinstance(plan, DoesNotFit):
                    lines.append(f"{head} does not fit, by {plan.missing_bytes / _GIB:.1f} GiB a rank | | | | | |")
                    continue
                bill = plan.bill
                survives = "a pod" if plan.survives_pod_loss else "a rank" if plan.survives_process_loss else "nothing"
                step = bill.activations + bill.exchange
                figures = [f"{count / _GIB:.1f} GiB" for count in (plan.read_bytes, bill.weights, step, bill.failover)]
                lines.append(f"{head} {' | '.join(figures)} | {plan.kv_cache_tokens} | {survives} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE, table()))
