"""A ModelInferRequest and its responses, the same for the unary and the streaming method.

Checks the model's name and version, parses, generates, builds responses and books the outcome, whatever it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from openmodel_protos import grpc_service_pb2 as pb
from openmodel_runtime.errors import InternalError, InvalidRequest, NotFound, RequestError, Unavailable
from openmodel_runtime.front.activity import Activity
from openmodel_runtime.front.generation import Generator
from openmodel_runtime.front.parse import parse_request
from openmodel_runtime.front.respond import Responder
from openmodel_runtime.front.statistics import CANCELLED, RequestTimer, Statistics
from openmodel_runtime.telemetry.content import Content
from openmodel_runtime.telemetry.ended_request import Parent
from openmodel_runtime.text.conversation import Conversation
from openmodel_telemetry.logs import of_caller

_log = logging.getLogger(__name__)
DRAINING = "the server is shutting down and takes no new requests: send it again, to another one"


class Inference:
    """Answers requests for one model."""

    def __init__(
        self,
        name: str,
        version: str,
        generator: Generator,
        statistics: Statistics,
        activity: Activity,
        *,
        captures: bool = False,
    ) -> None:
        """`captures`: spans have what callers ask and are answered."""
        self._name = name
        self._version = version
        self._generator = generator
        self._statistics = statistics
        self._activity = activity
        self._captures = captures
        self.draining = False
        """True once the server stops: it takes no new request."""

    def check_model(self, name: str, version: str) -> None:
        """NotFound unless the name and version are this server's; "" is any version."""
        if name != self._name:
            raise NotFound(f"unknown model {name!r}; this server has {self._name!r}")
        if version not in ("", self._version):
            raise NotFound(
                f"model {name!r} has no version {version!r}; it has {self._version!r}, and '' means that one"
            )

    async def responses(
        self, request: pb.ModelInferRequest, parent: Parent = None, *, streaming: bool
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Each response, marked as the last one or not when `streaming`; RequestError when there is none to give."""
        timer = RequestTimer()
        timer.parent = parent
        outcome: str | None = CANCELLED
        try:
            if self.draining:
                raise Unavailable(DRAINING)
            self.check_model(request.model_name, request.model_version)
            parsed = parse_request(request, self._generator.defaults)
            timer.operation = "chat" if isinstance(parsed.prompt, Conversation) else "text_completion"
            timer.content = Content(parsed.prompt) if self._captures else None
            if parsed.stream and not streaming:
                raise InvalidRequest("stream = true needs ModelStreamInfer; ModelInfer answers the whole completion")
            token_text = self._generator.text.token_text
            responder = Responder(request, self._name, self._version, parsed, token_text, streaming=streaming)
            with self._activity.request():
                async with aclosing(self._generator.generate(parsed, timer)) as news:
                    async for pieces in news:
                        if all([piece.finish_reason for piece in pieces]):
                            outcome = None
                        yield responder.response(pieces, timer.input_tokens)
        except RequestError as error:
            outcome = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception:
            outcome = InternalError.code
            _log.exception("a request failed", extra=of_caller(parent))
            raise InternalError("the server failed on this request; its log says why") from None
        finally:
            self._statistics.ended(timer, outcome)
