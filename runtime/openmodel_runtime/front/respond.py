"""ModelInferResponses of a generation.

Pure. Answers always in raw_output_contents, one entry an output in the same order: the one form that every client
decodes.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import RequestError
from openmodel_runtime.front.signature import OUTPUTS
from openmodel_runtime.front.tensors import Value, encode_values

_DATATYPES = {signature.name: signature.datatype for signature in OUTPUTS}
FINAL = "triton_final_response"
# A status travels in the trailers, where a byte may take three and clients stop reading at 8 KiB.
_MAX_MESSAGE_BYTES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What is new in a response."""

    text: str
    finish_reason: str
    """"" while the completion goes on."""
    num_input_tokens: int
    num_output_tokens: int
    """Tokens of this response; of the whole completion when there is one response."""


def infer_response(
    request: pb.ModelInferRequest, name: str, version: str, chunk: Chunk, outputs: tuple[str, ...]
) -> pb.ModelInferResponse:
    """A response with the wanted outputs."""
    values: dict[str, Value] = {
        "text_output": chunk.text.encode(),
        "finish_reason": chunk.finish_reason.encode(),
        "num_input_tokens": chunk.num_input_tokens,
        "num_output_tokens": chunk.num_output_tokens,
    }
    response = empty_response(request, name, version)
    for output in outputs:
        response.outputs.add(name=output, datatype=_DATATYPES[output], shape=[1])
        response.raw_output_contents.append(encode_values(_DATATYPES[output], [values[output]]))
    return response


def empty_response(request: pb.ModelInferRequest, name: str, version: str) -> pb.ModelInferResponse:
    """A response without outputs: name, version and the request's id."""
    return pb.ModelInferResponse(model_name=name, model_version=version, id=request.id)


def message_of(error: RequestError) -> str:
    """The error's text, cut to what a status can carry: it may repeat what the caller sent."""
    return str(error).encode(errors="replace")[:_MAX_MESSAGE_BYTES].decode(errors="ignore")


def mark_final(response: pb.ModelInferResponse, final: bool) -> None:
    """Says whether this is the request's last response on a stream."""
    response.parameters[FINAL].bool_param = final
