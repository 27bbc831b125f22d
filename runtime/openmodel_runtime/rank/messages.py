"""What the front and a rank say to each other over their socket pair.

A message is a msgpack map behind a 4-byte big-endian length; the tag names its type.
"""

from __future__ import annotations

import struct

import msgspec

from openmodel_runtime.config import EngineConfig, GroupMember
from openmodel_runtime.parallel.placement import Slots
from openmodel_runtime.request import GenerateRequest, RequestFailed, TokenOutput

_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size


class GroupShare(msgspec.Struct, frozen=True, kw_only=True):
    """A rank's part of the model, to begin with."""

    rank: int
    """Its place among those of a group that starts."""
    size: int
    """Ranks of that group."""
    tensor: bool = False
    """Whether they share each matrix; else they share the experts."""
    redundant: int = 0
    """Copies of experts in each layer beside the first."""
    spared: tuple[int, ...] = ()
    """Ranks whose experts the others are to have room for: the first of these numbers that there is memory for."""
    slots: dict[int, Slots] | None = None
    """Of a rank that comes to a group that is there: the experts that it is to hold, by layer."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """To the rank, first and once: what to load."""

    model_path: str
    engine: EngineConfig
    share: GroupShare | None = None
    """What it holds of the model; None: all of it."""


class Fit(msgspec.Struct, frozen=True, tag=True):
    """To the rank, once its weights are in: size the cache for what is left of the memory."""

    ranks: int
    """Ranks of the pod that have not taken their part of what is left."""
    kv_cache_tokens: int | None = None
    """The most that the cache may hold, as those of the others."""
    room: int | None = None
    """Experts of a layer that there is memory for, as in the others."""


class Submit(msgspec.Struct, frozen=True, tag=True):
    """To the rank: generate this."""

    request: GenerateRequest
    bell: int = 0
    """The call that woke the group for it."""


class Ring(msgspec.Struct, frozen=True, tag=True):
    """To the rank: another rank of the group has work, so take part in its steps."""

    bell: int


class Regroup(msgspec.Struct, frozen=True, tag=True):
    """To the rank: the group that it is to step with next."""

    epoch: int
    member: GroupMember | None
    """None: it steps with nobody from then on."""
    layers: dict[int, tuple[Slots, ...]]
    """The placement: of each routed layer, the experts of each rank."""
    broken: bool
    """Whether the group before it has lost a member: then nobody waits for it any longer."""


class Abort(msgspec.Struct, frozen=True, tag=True):
    """To the rank: nobody wants this request's tokens any more."""

    request_id: int


class WeightsRead(msgspec.Struct, frozen=True, tag=True):
    """From the rank, once: what is left of the memory can be divided."""


class Ping(msgspec.Struct, frozen=True, tag=True):
    """To the rank: say that you are there."""


class Pong(msgspec.Struct, frozen=True, tag=True):
    """From the rank, at once."""

    step_seconds: float
    """How long its present step has computed; 0 while it waits, for work or for other ranks."""


class AskLoad(msgspec.Struct, frozen=True, tag=True):
    """To the rank: say how many tokens went to each expert."""


class LoadCounts(msgspec.Struct, frozen=True, tag=True):
    """From the rank, at once."""

    layers: dict[int, list[int]]
    """Since it began, of all ranks that it stepped with: tokens by expert, of each routed layer."""


class Loaded(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """From the rank, once: the model is in memory and can run."""

    architecture: str
    parameters: int
    active_parameters: int
    """Parameters that one token meets."""
    dtype: str
    kernels: str
    """Backend and capability that compute."""
    weight_bytes: int
    billed_bytes: int
    """What the memory bill comes to: held after loading, activations, failover, cache."""
    activation_bytes: int = 0
    """Of the bill: the most that a step needs."""
    failover_bytes: int = 0
    """Of the bill: room for experts of ranks that are lost."""
    kv_cache_bytes: int = 0
    """Of the bill: the cache."""
    vocab_size: int
    """Token ids are less than this."""
    max_model_len: int
    kv_cache_tokens: int
    load_seconds: float
    experts: int = 0
    """Of each routed layer."""
    slots: dict[int, Slots] = {}
    """The experts that it holds, by layer; none of a rank that is alone."""
    room: int = 0
    """Experts of a layer that it has memory for."""


class Regrouped(msgspec.Struct, frozen=True, tag=True):
    """From the rank: it steps with the group of this epoch."""

    epoch: int


class NotMet(msgspec.Struct, frozen=True, tag=True):
    """From the rank: the members of this epoch have not come together, though it was not overtaken by another."""

    epoch: int


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """From the rank, instead of Loaded: starting again would not help."""

    reason: str
    message: str


class StepDone(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """From the rank, after each step."""

    outputs: list[TokenOutput]
    failed: list[RequestFailed] = []
    admitted: list[int] = []
    """Requests that were admitted for the first time in this step."""
    began_ns: int = 0
    """When the step began, on the machine's steady clock; 0 where nobody was admitted."""
    swapping_seconds: float = 0.0
    """How long the rank has sent rows to others and waited for theirs since the step told of before."""
    running: int
    waiting: int
    waiting_tokens: int = 0
    """Known tokens of those that wait: what has to be computed before they get their first."""
    free_tokens: int


ToRank = Start | Fit | Ping | AskLoad | Submit | Ring | Regroup | Abort
FromRank = WeightsRead | Pong | LoadCounts | Loaded | StartFailed | StepDone | Regrouped | NotMet

_encoder = msgspec.msgpack.Encoder()
_to_rank = msgspec.msgpack.Decoder(ToRank)
_from_rank = msgspec.msgpack.Decoder(FromRank)


def encode(message: ToRank | FromRank) -> bytes:
    """The message with its length in front."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def body_length(prefix: bytes) -> int:
    """Length of the body that follows a prefix of LENGTH_BYTES."""
    return int(_LENGTH.unpack(prefix)[0])


def decode_to_rank(body: bytes) -> ToRank:
    """A message to the rank."""
    message: ToRank = _to_rank.decode(body)
    return message


def decode_from_rank(body: bytes) -> FromRank:
    """A message from the rank."""
    message: FromRank = _from_rank.decode(body)
    return message
