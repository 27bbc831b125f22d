"""ModelInferResponses of a generation.

Pure. Answers always in raw_output_contents, one entry an output in the same order: the one form that every client
decodes. Every output has an element for each completion, but those that are about the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import RequestError
from openmodel_runtime.front.completion import Piece
from openmodel_runtime.front.logprobs import TokenText, logprobs_json
from openmodel_runtime.front.parse import InferRequest
from openmodel_runtime.front.schemes.recognise import OUTPUTS
from openmodel_runtime.front.tensors import Value, encode_values

_DATATYPES = {signature.name: signature.datatype for signature in OUTPUTS}
FINAL = "triton_final_response"
# A status travels in the trailers, where a byte may take three and clients stop reading at 8 KiB.
_MAX_MESSAGE_BYTES = 2_000

_OF_PIECE: dict[str, Callable[[Piece], Value]] = {
    "text_output": lambda piece: piece.text.encode(),
    "finish_reason": lambda piece: piece.finish_reason.encode(),
    "stop_reason": lambda piece: piece.stop_reason.encode(),
    "num_output_tokens": lambda piece: piece.num_tokens,
    "cumulative_logprob": lambda piece: piece.cumulative_logprob,
    "cum_log_probs": lambda piece: piece.cumulative_logprob,
}
_OF_PROMPT = frozenset({"num_input_tokens", "batch_index"})


class Responder:
    """Makes the responses to one request: what they all share is built once."""

    def __init__(
        self,
        request: pb.ModelInferRequest,
        name: str,
        version: str,
        parsed: InferRequest,
        token_text: TokenText,
        *,
        streaming: bool,
    ) -> None:
        self._outputs = parsed.outputs
        self._asked_logprobs = parsed.sampling.logprobs is not None
        self._token_text = token_text
        self._streaming = streaming
        self._template = pb.ModelStreamInferResponse(infer_response=empty_response(request, name, version))
        response = self._template.infer_response
        for output in parsed.outputs:
            count = 1 if output in _OF_PROMPT else parsed.sampling.n
            response.outputs.add(name=output, datatype=_DATATYPES[output], shape=[count])
        if streaming:
            mark_final(response, False)

    def response(self, pieces: Sequence[Piece], num_input_tokens: int) -> pb.ModelStreamInferResponse:
        """A response with the wanted outputs; `pieces` has one for each completion.

        On a stream it says whether it is the request's last.
        """
        message = pb.ModelStreamInferResponse()
        message.CopyFrom(self._template)
        response = message.infer_response
        response.raw_output_contents.extend([self._raw(output, pieces, num_input_tokens) for output in self._outputs])
        if "output_log_probs" in self._outputs:
            longest = max(len(piece.logprobs) for piece in pieces)
            response.outputs[self._outputs.index("output_log_probs")].shape[:] = [len(pieces), longest]
        if self._streaming and all([piece.finish_reason for piece in pieces]):
            mark_final(response, True)
        return message

    def _raw(self, output: str, pieces: Sequence[Piece], num_input_tokens: int) -> bytes:
        values: list[Value]
        if of_piece := _OF_PIECE.get(output):
            values = [of_piece(piece) for piece in pieces]
        elif output == "logprobs":
            values = [self._json(piece) for piece in pieces]
        elif output == "output_log_probs":
            values = _padded(pieces)
        elif output == "sequence_index":
            values = list(range(len(pieces)))
        else:
            values = [num_input_tokens if output == "num_input_tokens" else 0]
        return encode_values(_DATATYPES[output], values)

    def _json(self, piece: Piece) -> bytes:
        return logprobs_json(piece.logprobs, self._token_text) if self._asked_logprobs else b"null"


def _padded(pieces: Sequence[Piece]) -> list[Value]:
    """Log-probabilities of the new tokens, a row a completion; short rows are filled up with 0."""
    longest = max(len(piece.logprobs) for piece in pieces)
    values: list[Value] = []
    for piece in pieces:
        values += [output.logprob or 0.0 for output in piece.logprobs]
        values += [0.0] * (longest - len(piece.logprobs))
    return values


def empty_response(request: pb.ModelInferRequest, name: str, version: str) -> pb.ModelInferResponse:
    """A response without outputs: name, version and the request's id."""
    return pb.ModelInferResponse(model_name=name, model_version=version, id=request.id)


def message_of(error: RequestError) -> str:
    """The error's text, cut to what a status can carry: it may repeat what the caller sent."""
    return str(error).encode(errors="replace")[:_MAX_MESSAGE_BYTES].decode(errors="ignore")


def mark_final(response: pb.ModelInferResponse, final: bool) -> None:
    """Says whether this is the request's last response on a stream."""
    response.parameters[FINAL].bool_param = final
