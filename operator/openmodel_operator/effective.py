"""`status.effective`: what a spec comes to once every optional value is filled in. Pure."""

from __future__ import annotations

from openmodel_operator.spec import AutoscalingSpec, Manifest, OpenModelSpec


def strategy(spec: OpenModelSpec) -> str:
    """How revisions change: Auto is Surge."""
    return "Recreate" if spec.recreate else "Surge"


def effective_values(spec: OpenModelSpec) -> Manifest:
    """`status.effective`: every optional field's value in force."""
    engine = spec.engine
    return {
        "engine": {
            "dtype": engine.dtype,
            "quantization": engine.quantization,
            "maxModelLen": engine.max_model_len or "checkpoint",
            "maxNumSeqs": engine.max_num_seqs,
            "maxNumBatchedTokens": engine.max_num_batched_tokens,
            "memoryUtilization": engine.memory_utilization,
            "prefixCaching": engine.prefix_caching,
        },
        "parallelism": {
            "expert": 1 if spec.tensor else spec.ranks,
            "ranksPerPod": spec.ranks_per_pod,
            "tensor": spec.ranks if spec.tensor else 1,
            "redundantExperts": spec.redundant_experts,
        },
        "threadsPerRank": spec.threads,
        "replicas": spec.replicas,
        "rollout": {"strategy": strategy(spec), "paused": spec.paused, "drainSeconds": spec.drain_seconds},
        "suspend": spec.suspend,
        **({} if spec.autoscaling is None else {"autoscaling": _autoscaling(spec.autoscaling)}),
        "access": {"authentication": "None", **({"router": "WhenCold"} if spec.routed_when_cold else {})},
        "telemetry": {
            "captureContent": spec.telemetry.capture_content,
            **({"sampleRatio": spec.telemetry.sample_ratio} if spec.telemetry.otlp_endpoint else {}),
        },
    }


def _autoscaling(spec: AutoscalingSpec) -> Manifest:
    targets = {
        "waitingTokensPerRank": spec.waiting_tokens_per_rank,
        "kvCacheUtilization": spec.kv_cache_utilization,
        "timeToFirstTokenSeconds": spec.first_token_seconds,
    }
    return {
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
        "targets": {name: value for name, value in targets.items() if value is not None},
        "idleSeconds": spec.idle_seconds,
    }
