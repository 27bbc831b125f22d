"""Every metric that a program of OpenModel emits: the one table that recording, documentation and dashboards share."""

from __future__ import annotations

from openmodel_telemetry import names
from openmodel_telemetry.instrument import Attribute, Instrument, Kind

_REQUEST = (names.OPERATION_NAME, names.PROVIDER_NAME, names.REQUEST_MODEL)
_MODEL = (names.PROVIDER_NAME, names.REQUEST_MODEL)
_SLOW_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

# The runtime: of the GenAI semantic conventions, whose buckets are theirs too.
REQUEST_DURATION = Instrument(
    "gen_ai.server.request.duration",
    Kind.HISTOGRAM,
    "s",
    "From a request's arrival to its end, whatever the end.",
    (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    (*_REQUEST, names.ERROR_TYPE),
)
TIME_TO_FIRST_TOKEN = Instrument(
    "gen_ai.server.time_to_first_token",
    Kind.HISTOGRAM,
    "s",
    "From arrival to the first token.",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    _REQUEST,
)
TIME_PER_OUTPUT_TOKEN = Instrument(
    "gen_ai.server.time_per_output_token",
    Kind.HISTOGRAM,
    "s",
    "Mean time between tokens after the first, one value a request of two tokens or more.",
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    _REQUEST,
)
# The runtime: ours.
QUEUE_DURATION = Instrument(
    "openmodel.runtime.queue.duration",
    Kind.HISTOGRAM,
    "s",
    "From a request's being tokens to its first step.",
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    _REQUEST,
)
INPUT_TOKENS = Instrument(
    "openmodel.runtime.input_tokens",
    Kind.COUNTER,
    "{token}",
    "Tokens of prompts, booked at a request's end.",
    attributes=_REQUEST,
)
CACHED_TOKENS = Instrument(
    "openmodel.runtime.cached_input_tokens",
    Kind.COUNTER,
    "{token}",
    "Of those, tokens that the prefix cache had.",
    attributes=_REQUEST,
)
OUTPUT_TOKENS = Instrument(
    "openmodel.runtime.output_tokens",
    Kind.COUNTER,
    "{token}",
    "Generated tokens, booked at a request's end.",
    attributes=_REQUEST,
)
REQUESTS_RUNNING = Instrument(
    "openmodel.runtime.requests.running",
    Kind.GAUGE,
    "{request}",
    "Sequences that the last step left admitted.",
    attributes=_MODEL,
)
REQUESTS_WAITING = Instrument(
    "openmodel.runtime.requests.waiting", Kind.GAUGE, "{request}", "Sequences not admitted yet.", attributes=_MODEL
)
WAITING_TOKENS = Instrument(
    "openmodel.runtime.requests.waiting_tokens",
    Kind.GAUGE,
    "{token}",
    "Known tokens of sequences not admitted yet: what `waitingTokensPerRank` is about.",
    attributes=_MODEL,
)
KV_CACHE_TOKENS = Instrument(
    "openmodel.runtime.kv_cache.tokens",
    Kind.GAUGE,
    "{token}",
    "Size of the cache of keys and values.",
    attributes=_MODEL,
)
KV_CACHE_FREE_TOKENS = Instrument(
    "openmodel.runtime.kv_cache.free_tokens", Kind.GAUGE, "{token}", "What of it no sequence holds.", attributes=_MODEL
)
LOAD_DURATION = Instrument(
    "openmodel.runtime.load.duration",
    Kind.GAUGE,
    "s",
    "How long the last load of the checkpoint took.",
    attributes=_MODEL,
)
GROUP_EPOCH = Instrument(
    "openmodel.runtime.group.epoch",
    Kind.GAUGE,
    "{epoch}",
    "Number of the newest epoch: it grows when ranks come, go, or exchange experts.",
    attributes=_MODEL,
)
GROUP_RANKS = Instrument(
    "openmodel.runtime.group.ranks",
    Kind.GAUGE,
    "{rank}",
    "Ranks that have loaded and will stay.",
    attributes=_MODEL,
)
GROUP_MISSING_EXPERTS = Instrument(
    "openmodel.runtime.group.missing_experts",
    Kind.GAUGE,
    "{expert}",
    "Experts of each layer that no rank has memory for; more than 0: the group answers nobody.",
    attributes=_MODEL,
)
GROUP_GAP = Instrument(
    "openmodel.runtime.group.gap",
    Kind.HISTOGRAM,
    "s",
    "How long a rank with requests made no token while its group changed.",
    (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
    _MODEL,
)
EXPERT_IMBALANCE = Instrument(
    "openmodel.runtime.experts.imbalance",
    Kind.GAUGE,
    "1",
    "Of a layer: what the busiest rank has to do by the mean of all; 1 is even.",
    attributes=(*_MODEL, names.LAYER),
)
EXPERT_HOTTEST = Instrument(
    "openmodel.runtime.experts.hottest",
    Kind.GAUGE,
    "1",
    "Of a layer: what the expert that has most to do has by the mean of all.",
    attributes=(*_MODEL, names.LAYER),
)
RANK_DEATHS = Instrument(
    "openmodel.runtime.rank.deaths",
    Kind.COUNTER,
    "{process}",
    "Rank processes that ended without being asked to.",
    attributes=_MODEL,
)
RUNTIME = (
    REQUEST_DURATION, TIME_TO_FIRST_TOKEN, TIME_PER_OUTPUT_TOKEN, QUEUE_DURATION, INPUT_TOKENS, CACHED_TOKENS,
    OUTPUT_TOKENS, REQUESTS_RUNNING, REQUESTS_WAITING, WAITING_TOKENS, KV_CACHE_TOKENS, KV_CACHE_FREE_TOKENS,
    LOAD_DURATION, GROUP_EPOCH, GROUP_RANKS, GROUP_MISSING_EXPERTS, GROUP_GAP, EXPERT_IMBALANCE, EXPERT_HOTTEST,
    RANK_DEATHS,
)  # fmt: skip
"""Of a model pod."""

# The operator.
RECONCILE_DURATION = Instrument(
    "openmodel.operator.reconcile.duration",
    Kind.HISTOGRAM,
    "s",
    "One look at one OpenModel.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
RECONCILE_ERRORS = Instrument(
    "openmodel.operator.reconcile.errors", Kind.COUNTER, "{error}", "Looks that failed and are tried again."
)
API_REQUESTS = Instrument(
    "openmodel.operator.api.requests",
    Kind.COUNTER,
    "{request}",
    "Requests to the API server, but for the watches.",
    attributes=(names.METHOD, names.OBJECT_KIND),
)
LEADER = Instrument(
    "openmodel.operator.leader",
    Kind.OBSERVED_GAUGE,
    "{operator}",
    "1 on the operator that acts, 0 on those that stand by.",
)
MODELS = Instrument(
    "openmodel.operator.models",
    Kind.OBSERVED_GAUGE,
    "{model}",
    "OpenModels by what their condition Ready says, as the operator that acts sees them.",
    attributes=(names.READY, names.REASON),
)
PLAN_ACTUAL = Instrument(
    "openmodel.operator.plan.actual",
    Kind.OBSERVED_GAUGE,
    "1",
    "What a rank of a proven pod has, by what the plan had for it (`status.plan.bytesPerRank`); 1 is what was planned.",
    attributes=(names.NAMESPACE, names.MODEL, names.CATEGORY),
)
SCALINGS = Instrument(
    "openmodel.operator.scalings",
    Kind.COUNTER,
    "{change}",
    "Changes of a model's count of groups that the autoscaler decided.",
    attributes=(names.NAMESPACE, names.MODEL),
)
COLD_START = Instrument(
    "openmodel.operator.cold_start.duration",
    Kind.HISTOGRAM,
    "s",
    "Phases of a start, one value of each phase and proven pod: as `status.coldStart` has them.",
    _SLOW_BUCKETS,
    (names.PHASE,),
)
OPERATOR = (
    RECONCILE_DURATION, RECONCILE_ERRORS, API_REQUESTS, LEADER, MODELS, PLAN_ACTUAL, SCALINGS, COLD_START,
)  # fmt: skip
"""Of an operator."""

# The router: of all models together.
CALLS_HELD = Instrument("openmodel.router.calls.held", Kind.UP_DOWN_COUNTER, "{call}", "Calls that wait for a pod.")
CALL_WAIT = Instrument(
    "openmodel.router.call.wait",
    Kind.HISTOGRAM,
    "s",
    "How long a call waited, whether a pod came or its caller gave up.",
    _SLOW_BUCKETS,
)
CALLS_REFUSED = Instrument(
    "openmodel.router.calls.refused", Kind.COUNTER, "{call}", "Calls for which there was no place."
)
CALLS_SENT_AGAIN = Instrument(
    "openmodel.router.calls.sent_again", Kind.COUNTER, "{call}", "Calls whose pod was lost before it answered."
)
ROUTER = (CALLS_HELD, CALL_WAIT, CALLS_REFUSED, CALLS_SENT_AGAIN)
"""Of a router."""

ATTRIBUTES = (
    Attribute(names.OPERATION_NAME, "`text_completion`, or `chat` for `messages`"),
    Attribute(names.PROVIDER_NAME, "`openmodel`"),
    Attribute(names.REQUEST_MODEL, "the model's name"),
    Attribute(
        names.ERROR_TYPE,
        "the gRPC status of a request that failed, `CANCELLED` for one that its caller gave up; absent or empty for "
        "success",
    ),
    Attribute(names.LAYER, "number of a routed layer; one series a layer, however many experts it has"),
    Attribute(names.METHOD, "`GET`, `POST`, `PUT`, `PATCH` (also server-side apply), `DELETE`"),
    Attribute(names.OBJECT_KIND, "the kind of object"),
    Attribute(names.NAMESPACE, "the model's namespace"),
    Attribute(names.MODEL, "the model's name"),
    Attribute(
        names.CATEGORY,
        "`weights`, `activations`, `failover`, `kv_cache`; the last two where `resources.limits.memory` says how much "
        "there is",
    ),
    Attribute(names.READY, "`True` or `False`"),
    Attribute(names.REASON, "the reason of the condition"),
    Attribute(names.PHASE, "`scheduled`, `mount`, `load`, `firstToken`"),
)
"""Of metrics."""
