"""Tensors on the wire: the inputs of a ModelInferRequest become Python values, and outputs become raw bytes.

Pure. Knows the encoding of the Open Inference Protocol, not what any tensor is for. BYTES elements carry a 4-byte
little-endian length each; all other datatypes are little-endian and dense.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import InvalidRequest, Unsupported

Value = bool | int | float | bytes

_LENGTH = struct.Struct("<I")
# More dimensions are nobody's tensor, and multiplying a million of them would take for ever.
_MAX_DIMENSIONS = 32
# struct's letter for each datatype with a fixed size.
_FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
# The field of InferTensorContents that carries each datatype.
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(frozen=True, slots=True)
class InputTensor:
    """A decoded input."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Value, ...]


def decode_inputs(request: pb.ModelInferRequest) -> dict[str, InputTensor]:
    """All inputs by name; InvalidRequest names the input and what is wrong with it."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs: send one for each"
        )
    tensors: dict[str, InputTensor] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name in tensors:
            raise InvalidRequest(f"input {tensor.name!r} is given twice")
        tensors[tensor.name] = _decode_input(tensor, raw[index] if raw else None)
    return tensors


def _decode_input(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> InputTensor:
    name = tensor.name
    if any(key.startswith("shared_memory") for key in tensor.parameters):
        raise Unsupported(f"input {name!r} is in shared memory, which is not offered: send it in the request")
    if tensor.datatype not in _FORMATS and tensor.datatype != "BYTES":
        raise InvalidRequest(f"input {name!r} has unknown datatype {tensor.datatype!r}")
    if len(tensor.shape) > _MAX_DIMENSIONS:
        raise InvalidRequest(f"input {name!r} has {len(tensor.shape)} dimensions, more than {_MAX_DIMENSIONS}")
    shape = tuple(tensor.shape)
    if any(dim < 0 for dim in shape):
        raise InvalidRequest(f"input {name!r} has a negative dimension in its shape {list(shape)}")
    needed = math.prod(shape)
    if raw is None:
        values = _typed_values(tensor)
    elif tensor.HasField("contents"):
        raise InvalidRequest(f"input {name!r} has contents beside raw_input_contents: send one of them")
    elif tensor.datatype == "BYTES":
        values = _decode_bytes(name, raw, needed)
    else:
        values = _decode_fixed(name, tensor.datatype, raw, needed)
    if len(values) != needed:
        raise InvalidRequest(f"input {name!r} has {len(values)} elements, its shape {list(shape)} needs {needed}")
    return InputTensor(name, tensor.datatype, shape, values)


def _typed_values(tensor: pb.ModelInferRequest.InferInputTensor) -> tuple[Value, ...]:
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise InvalidRequest(f"input {tensor.name!r} of {tensor.datatype} must be sent in raw_input_contents")
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if filled not in ([], [field]):
        raise InvalidRequest(
            f"input {tensor.name!r} of {tensor.datatype} must be in contents.{field}, not {', '.join(filled)}"
        )
    return tuple(getattr(tensor.contents, field))


def _decode_bytes(name: str, raw: bytes, needed: int) -> tuple[Value, ...]:
    """The elements; a surplus is refused before it is decoded, so that no request costs more than it may."""
    values: list[Value] = []
    offset = 0
    while offset < len(raw):
        if len(values) == needed:
            raise InvalidRequest(f"input {name!r} has more elements than the {needed} that its shape needs")
        if offset + _LENGTH.size > len(raw):
            raise InvalidRequest(f"input {name!r}: the last BYTES element is cut off within its length")
        (length,) = _LENGTH.unpack_from(raw, offset)
        offset += _LENGTH.size
        if offset + length > len(raw):
            raise InvalidRequest(f"input {name!r}: a BYTES element of {length} bytes has {len(raw) - offset} left")
        values.append(raw[offset : offset + length])
        offset += length
    return tuple(values)


def _decode_fixed(name: str, datatype: str, raw: bytes, needed: int) -> tuple[Value, ...]:
    letter = _FORMATS[datatype]
    size = struct.calcsize(letter)
    if len(raw) > size * needed:
        raise InvalidRequest(f"input {name!r} has more elements than the {needed} that its shape needs")
    if len(raw) % size:
        raise InvalidRequest(f"input {name!r}: {len(raw)} bytes are no whole number of {datatype} elements")
    return struct.unpack(f"<{len(raw) // size}{letter}", raw)


def encode_values(datatype: str, values: Sequence[Value]) -> bytes:
    """Raw contents of an output."""
    if datatype == "BYTES":
        return b"".join([_LENGTH.pack(len(value)) + value for value in values if isinstance(value, bytes)])
    return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
