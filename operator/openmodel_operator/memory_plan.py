"""What each rank of a group needs in memory, and whether it has it: from shapes, before an accelerator is asked for.

Pure. Knows numbers of a model and of a device; knows neither checkpoints nor pods. Attention is replicated on every
rank (data-parallel), experts are divided among them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_MAX_RANKS = 16
_MAX_SHARED = 8
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model, as far as memory goes; counts are of numbers, not bytes."""

    replicated: int
    """Weights that every rank holds: embedding, head, attention, norms, routers, dense and shared blocks."""
    embeddings: int = 0
    """Those of them that ranks which share matrices hold whole all the same: embedding and head."""
    attention: int = 0
    """Those of them that are attention's matrices, which ranks that share matrices divide by heads."""
    exact: int = 0
    """Those of them that no quantization touches: routers, norms, biases."""
    expert: int = 0
    """Weights of one expert of one layer."""
    experts: int = 0
    """Routed experts of a layer; 0 for a dense model."""
    routed_layers: int = 0
    """Layers that have experts."""
    experts_per_token: int = 0
    """Experts that a token goes to."""
    hidden_size: int
    vocab_size: int
    cached_per_token: int
    """What the cache holds of a token, over all layers."""
    kv_heads: int = 1
    """That ranks which share matrices divide among them, and the cache with them."""
    step_per_token: int
    """The most that a step holds of a token on its way through a layer."""
    stored_bytes: float = 2.0
    """Bytes of a number of a replicated matrix in the checkpoint, on average."""
    stored_expert_bytes: float = 2.0
    """Bytes of a number of an expert in the checkpoint: 0.53 in MXFP4, with its scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRequest:
    """What is asked for."""

    memory_bytes: int | None
    """Memory of a rank's device, or its share of the pod's; None when nobody says how much there is."""
    memory_utilization: float
    """Share of it that may be used."""
    ranks: int
    ranks_per_pod: int = 1
    tensor: bool = False
    """The ranks share each matrix of a dense model; else they share the experts."""
    overhead_bytes: int = 0
    """What a rank's process, and its share of the pod's others, hold beside."""
    redundant_experts: int = 0
    """Copies of experts in each layer beside the first."""
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    weight_bytes: float = 2.0
    """Bytes of a number of a matrix: 2 for bfloat16 and what is expanded to it, 1 for int8."""
    element_bytes: int = 2
    """Bytes of a number on its way, and in the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBill:
    """A rank's memory, in bytes; the fields add up to what the device has."""

    weights: int
    activations: int
    exchange: int
    """Tokens on their way to experts of other ranks, and back."""
    failover: int
    """Room for the experts of a rank that is lost."""
    kv_cache: int
    reserved: int
    """What `memoryUtilization` leaves to others, what processes hold beside, and what no cache would ever need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """It fits."""

    bill: MemoryBill
    kv_cache_tokens: int
    """Tokens that the cache of one rank holds."""
    read_bytes: int
    """What a rank reads of the checkpoint when it starts."""
    survives_process_loss: bool
    """The other ranks have room for the experts of one that is lost."""
    survives_pod_loss: bool
    """And for those of a whole pod."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoesNotFit:
    """It does not, by how much, and what would."""

    missing_bytes: int
    """What a rank lacks."""
    reason: str


def plan_memory(shape: ModelShape, request: MemoryRequest) -> MemoryPlan | DoesNotFit:
    """The bill of a rank; room to survive the loss of a pod, or of a process, is taken where there is some.

    What is left after weights and buffers becomes cache, which must hold one sequence of the longest length.
    """
    for lost in sorted({request.ranks_per_pod, 1, 0}, reverse=True):
        if lost and (not shape.experts or request.tensor or lost >= request.ranks):
            continue
        plan = _plan(shape, request, lost)
        if plan is not None:
            return plan
    return _does_not_fit(shape, request)


def weights_per_rank(shape: ModelShape, request: MemoryRequest, ranks: int) -> int:
    """Bytes of the weights of one of so many ranks."""
    matrices = _replicated_matrices(shape, request, ranks) + _expert_numbers(shape, request, ranks)
    return int(matrices * request.weight_bytes) + shape.exact * request.element_bytes


def _read_bytes(shape: ModelShape, request: MemoryRequest) -> int:
    """Bytes of the checkpoint that one rank reads, in the form in which they are stored."""
    experts = _expert_numbers(shape, request, request.ranks) * shape.stored_expert_bytes
    matrices = _replicated_matrices(shape, request, request.ranks) * shape.stored_bytes
    return int(matrices + experts) + shape.exact * request.element_bytes


def _replicated_matrices(shape: ModelShape, request: MemoryRequest, ranks: int) -> int:
    """Weights of one of so many ranks that are no experts'."""
    matrices = shape.replicated - shape.exact
    if not request.tensor:
        return matrices
    rest = matrices - shape.embeddings - shape.attention
    heads = -(-shape.kv_heads // ranks)
    return -(-rest // ranks) + -(-shape.attention * heads // shape.kv_heads) + shape.embeddings


def _expert_numbers(shape: ModelShape, request: MemoryRequest, ranks: int) -> int:
    """Weights of the experts of one of so many ranks, the fullest."""
    slots = -(-(shape.experts + request.redundant_experts) // ranks) if shape.experts else 0
    return slots * shape.routed_layers * shape.expert


def _plan(shape: ModelShape, request: MemoryRequest, lost: int) -> MemoryPlan | None:
    bill, needed = _bill(shape, request, lost)
    if bill.kv_cache < needed:
        return None
    tokens = bill.kv_cache // _token_bytes(shape, request)
    if request.tensor:
        survival = "the loss of a rank stops the group until another comes in its place"
    elif not shape.experts:
        survival = "a dense model has nothing to take over: each rank is a group of its own"
    elif lost:
        what = f"a pod of {lost} ranks" if lost > 1 else "a rank"
        survival = f"{request.ranks - lost} ranks have room for the experts of {what} that is lost"
    elif request.ranks > 1:
        survival = "the loss of a rank stops the group: the others have no room for its experts"
    else:
        survival = "the loss of the only rank stops the group"
    return MemoryPlan(
        bill=bill,
        kv_cache_tokens=tokens,
        read_bytes=_read_bytes(shape, request),
        survives_process_loss=lost >= 1,
        survives_pod_loss=lost >= request.ranks_per_pod,
        reason=f"{_gib(bill.weights)} of weights and {_cache(request, tokens)} a rank; {survival}",
    )


def _cache(request: MemoryRequest, tokens: int) -> str:
    if request.memory_bytes is None:
        return f"at least {tokens} cached tokens, as nothing says how much memory there is,"
    return f"room for {tokens} cached tokens"


def _bill(shape: ModelShape, request: MemoryRequest, lost: int) -> tuple[MemoryBill, int]:
    """The bill with room for the experts of `lost` ranks, and the cache that one longest sequence needs."""
    weights = weights_per_rank(shape, request, request.ranks)
    # Redundant copies need not be kept by those that are left.
    spare = replace(request, redundant_experts=0)
    failover = max(weights_per_rank(shape, spare, request.ranks - lost) - weights, 0) if lost else 0
    logits = 3 * 4 * request.max_num_seqs * shape.vocab_size
    activations = request.max_num_batched_tokens * shape.step_per_token * request.element_bytes + logits
    exchange = 0
    if request.ranks > 1 and (shape.experts or request.tensor):
        slots = request.max_num_batched_tokens * max(1, shape.experts_per_token)
        exchange = 2 * slots * shape.hidden_size * request.element_bytes
    used = weights + activations + exchange + failover
    needed = request.max_model_len * _token_bytes(shape, request)
    usable = _usable(request)
    if usable is None:
        kv_cache, reserved = needed, request.overhead_bytes
    else:
        # More than every sequence at its longest would never be held.
        kv_cache = min(max(usable - used, 0), request.max_num_seqs * needed)
        reserved = max((request.memory_bytes or 0) - used - kv_cache, 0)
    bill = MemoryBill(
        weights=weights,
        activations=activations,
        exchange=exchange,
        failover=failover,
        kv_cache=kv_cache,
        reserved=reserved,
    )
    return bill, needed


def _usable(request: MemoryRequest) -> int | None:
    """What a rank may use of its memory for the model."""
    if request.memory_bytes is None:
        return None
    return int(request.memory_bytes * request.memory_utilization) - request.overhead_bytes


def _token_bytes(shape: ModelShape, request: MemoryRequest) -> int:
    """What the cache of a rank holds of a token."""
    heads = -(-shape.kv_heads // request.ranks) if request.tensor else shape.kv_heads
    return -(-shape.cached_per_token * heads // shape.kv_heads) * request.element_bytes


def _does_not_fit(shape: ModelShape, request: MemoryRequest) -> DoesNotFit:
    bill, needed = _bill(shape, request, 0)
    usable = _usable(request)
    assert usable is not None
    assert request.memory_bytes is not None
    wanted = bill.weights + bill.activations + bill.exchange + needed
    return DoesNotFit(
        missing_bytes=wanted - usable,
        reason=(
            f"does not fit: a rank needs {_gib(bill.weights)} for weights, "
            f"{_gib(bill.activations + bill.exchange)} for a step and {_gib(needed)} for the cache of one sequence of "
            f"{request.max_model_len} tokens, together {_gib(wanted)}, and has {_gib(usable)} of "
            f"{_gib(request.memory_bytes)} at memoryUtilization {request.memory_utilization}{_beside(request)}. "
            f"{_remedy(shape, request, bill.kv_cache, wanted)}"
        ),
    )


def _remedy(shape: ModelShape, request: MemoryRequest, kv_cache: int, wanted: int) -> str:
    """What would fit, the smallest changes first, where so many bytes are left for the cache and so many are wanted."""
    remedies = []
    if shorter := kv_cache // _token_bytes(shape, request):
        remedies.append(f"engine.maxModelLen of at most {shorter}")
    if shape.experts:
        more = range(request.ranks + 1, _MAX_RANKS + 1)
        enough = next((ranks for ranks in more if _plan(shape, replace(request, ranks=ranks), 0)), None)
        if enough:
            remedies.append(f"parallelism.expert of at least {enough}")
    else:
        more = range(request.ranks + 1 if request.tensor else 2, min(_MAX_SHARED, shape.kv_heads) + 1)
        enough = next((ranks for ranks in more if _plan(shape, replace(request, tensor=True, ranks=ranks), 0)), None)
        if enough:
            remedies.append(f"parallelism.tensor of at least {enough}")
    if request.weight_bytes > 1 and _plan(shape, replace(request, weight_bytes=1.0), 0):
        remedies.append("engine.quantization int8")
    whole = int((wanted + request.overhead_bytes) / request.memory_utilization) + 1
    remedies.append(f"{_gib(whole)} of memory a rank")
    return f"It fits with {', or with '.join(remedies)}"


def _beside(request: MemoryRequest) -> str:
    return f", {_gib(request.overhead_bytes)} of it held by the processes themselves" if request.overhead_bytes else ""


def _gib(count: int) -> str:
    """Rounded up to a tenth: what is said to be enough is."""
    return f"{-(-count * 10 // _GIB) / 10:.1f} GiB"
