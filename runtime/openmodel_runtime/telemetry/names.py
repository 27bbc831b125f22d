"""Every name of a metric, span or attribute that the runtime emits, in one place.

`gen_ai.*` are OpenTelemetry's GenAI semantic conventions, whose buckets are theirs too; `openmodel.*` are ours.
"""

from __future__ import annotations

REQUEST_DURATION = "gen_ai.server.request.duration"
TIME_TO_FIRST_TOKEN = "gen_ai.server.time_to_first_token"
TIME_PER_OUTPUT_TOKEN = "gen_ai.server.time_per_output_token"
INPUT_TOKENS = "openmodel.runtime.input_tokens"
OUTPUT_TOKENS = "openmodel.runtime.output_tokens"
REQUESTS_RUNNING = "openmodel.runtime.requests.running"
REQUESTS_WAITING = "openmodel.runtime.requests.waiting"
KV_CACHE_FREE_TOKENS = "openmodel.runtime.kv_cache.free_tokens"
KV_CACHE_TOKENS = "openmodel.runtime.kv_cache.tokens"
RANK_DEATHS = "openmodel.runtime.rank.deaths"
GROUP_EPOCH = "openmodel.runtime.group.epoch"
GROUP_RANKS = "openmodel.runtime.group.ranks"
GROUP_MISSING_EXPERTS = "openmodel.runtime.group.missing_experts"
GROUP_GAP = "openmodel.runtime.group.gap"
EXPERT_IMBALANCE = "openmodel.runtime.experts.imbalance"
EXPERT_HOTTEST = "openmodel.runtime.experts.hottest"
LOAD_SECONDS = "openmodel.runtime.load.duration"

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
LAYER = "openmodel.layer"
ERROR_TYPE = "error.type"

GROUP_GAP_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
REQUEST_DURATION_BUCKETS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
TIME_TO_FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
TIME_PER_OUTPUT_TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
