"""Callers who ask a group without pause, know what the answer must be, and note how each request ended."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from contract.infer_requests import GREEDY, PROMPT, request, text_of
from contract.pods import Pods
from openmodel_protos import grpc_service_pb2 as pb

# Nothing that a test does to a group keeps it from answering for so long.
_LIMIT_SECONDS = 90.0
_PAUSE_SECONDS = 0.05
_CANCELLED = 0.15
_PROMPTS = (PROMPT, "In the year 2024", "a", "Rank zero died while the others computed: " * 20)


@dataclass(frozen=True)
class Case:
    """A request, and its answer when nothing disturbs it."""

    message: pb.ModelInferRequest
    text: str


def cases(stub: Any) -> list[Case]:
    """What is asked, answered by a runtime that is left alone."""
    samplings = [
        {**GREEDY, "max_tokens": 150},
        {"temperature": 0.9, "seed": 4, "max_tokens": 80, "ignore_eos": True},
        {"temperature": 1.2, "seed": 9, "top_p": 0.9, "max_tokens": 20},
    ]
    messages = [request(prompt, sampling) for prompt in _PROMPTS for sampling in samplings]
    return [Case(message, text_of(stub.ModelInfer(message))) for message in messages]


class Callers:
    """So many threads, each with one request at a time, until `stop`."""

    def __init__(self, pods: Pods, asked: Sequence[Case], count: int, seed: int) -> None:
        self._pods = pods
        self._cases = asked
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.ends: Counter[str] = Counter()
        """How requests ended."""
        self.faults: list[str] = []
        """Those that must not be."""
        self._threads = [
            threading.Thread(target=self._call, args=(random.Random(seed + index),)) for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns once every request has ended."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _call(self, chance: random.Random) -> None:
        while not self._ending.is_set():
            try:
                server = self._pods.pods[chance.choice(sorted(self._pods.pods))]
            except KeyError:
                continue
            with server.channel() as channel:
                self._ask(channel, chance)

    def _ask(self, channel: grpc.Channel, chance: random.Random) -> None:
        case = chance.choice(self._cases)
        ask: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        began = time.monotonic()
        call = ask.future(case.message, timeout=_LIMIT_SECONDS)
        if chance.random() < _CANCELLED:
            self._ending.wait(chance.random() / 2)
            call.cancel()
        try:
            text = text_of(call.result())
        except grpc.FutureCancelledError:
            self._note("cancelled")
        except grpc.RpcError as error:
            self._refused(call, error, time.monotonic() - began)
        else:
            self._note("completed" if text == case.text else "wrong", f"{text!r} instead of {case.text!r}")

    def _refused(self, call: Any, error: grpc.RpcError, seconds: float) -> None:
        code = call.code()
        if code is grpc.StatusCode.UNAVAILABLE:
            self._note("unavailable")
            # The pod has ended, or is about to answer: as a client would, ask again in a moment.
            self._ending.wait(_PAUSE_SECONDS)
        elif code is grpc.StatusCode.CANCELLED:
            self._note("cancelled")
        else:
            self._note("hung" if code is grpc.StatusCode.DEADLINE_EXCEEDED else "failed", f"{seconds:.1f} s: {error}")

    def _note(self, end: str, fault: str = "") -> None:
        with self._lock:
            self.ends[end] += 1
            if end in ("wrong", "hung", "failed"):
                self.faults.append(f"{end}: {fault}")
