"""Every name of an attribute, a span and an event of a span that a program of OpenModel emits.

`gen_ai.*`, `rpc.*`, `k8s.*`, `http.*` and `error.type` are OpenTelemetry's semantic conventions, `openmodel.*` ours.
"""

from __future__ import annotations

# OpenTelemetry's variable of whether spans have what callers ask and are answered, and what says that they have
CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CAPTURED, NOT_CAPTURED = "SPAN_ONLY", "NO_CONTENT"

# Attributes of requests
OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
EXCHANGE_SECONDS = "openmodel.experts.exchange"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
CONTENT_TRUNCATED = "openmodel.content.truncated"
ERROR_TYPE = "error.type"
RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"

# Attributes of what is served
NAMESPACE = "k8s.namespace.name"
MODEL = "openmodel.model"
REVISION = "openmodel.revision"
LAYER = "openmodel.layer"
CATEGORY = "openmodel.memory.category"
PHASE = "openmodel.cold_start.phase"

# Attributes of the operator's work
METHOD = "http.request.method"
OBJECT_KIND = "k8s.object.kind"
SCALE_FROM = "openmodel.scaling.from"
SCALE_TO = "openmodel.scaling.to"
REASON = "openmodel.reason"
READY = "openmodel.ready"

# Spans, and their events
QUEUE_SPAN = "queue"
PREFILL_SPAN = "prefill"
DECODE_SPAN = "decode"
HOLD_SPAN = "hold"
RECONCILE_SPAN = "reconcile"
SCALE_SPAN = "scale"
FIRST_TOKEN_EVENT = "first token"
SENT_AGAIN_EVENT = "sent again"
