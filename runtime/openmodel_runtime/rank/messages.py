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


class Start(msgspec.Struct, frozen=True, tag=True):
    """To the rank, first and once: what to load."""

    model_path: str
    engine: EngineConfig
    group: GroupMember | None = None
    """None: this rank is alone, or waits for its first group."""
    slots: dict[int, Slots] | None = None
    """Of a rank that comes to a group that is there: the experts that it will hold, by layer."""
    kv_cache_tokens: int | None = None
    """And the most that its cache may hold, as those of the others."""


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

    member: GroupMember
    layers: dict[int, tuple[Slots, ...]]
    """The placement: of each routed layer, the experts of each rank."""
    broken: bool
    """Whether the group before it has lost a member: then nobody waits for it any longer."""


class Abort(msgspec.Struct, frozen=True, tag=True):
    """To the rank: nobody wants this request's tokens any more."""

    request_id: int


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
    """What the memory bill comes to: held after loading, activations, cache."""
    vocab_size: int
    """Token ids are less than this."""
    max_model_len: int
    kv_cache_tokens: int
    load_seconds: float
    experts: int = 0
    """Of each routed layer."""
    routed_layers: tuple[int, ...] = ()


class Regrouped(msgspec.Struct, frozen=True, tag=True):
    """From the rank: it steps with the group of this epoch."""

    epoch: int


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """From the rank, instead of Loaded: starting again would not help."""

    reason: str
    message: str


class StepDone(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """From the rank, after each step."""

    outputs: list[TokenOutput]
    failed: list[RequestFailed] = []
    running: int
    waiting: int
    free_tokens: int


ToRank = Start | Submit | Ring | Regroup | Abort
FromRank = Loaded | StartFailed | StepDone | Regrouped

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
