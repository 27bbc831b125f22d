"""What a rank's loop gets, in which order, when grammars take their time."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from openmodel_runtime.engine.grammar import GrammarCompiler, GrammarMatcher
from openmodel_runtime.errors import InternalError, InvalidRequest
from openmodel_runtime.rank.inbox import Arrival, Awaited, Closed, Inbox, NoLongerAwaited
from openmodel_runtime.rank.messages import Abort, Submit
from openmodel_runtime.request import GenerateRequest, RequestFailed, SamplingParams

MATCHER = cast(GrammarMatcher, object())


class Compiler:
    """Compiles when it is told to."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def compile(self, grammar: str) -> GrammarMatcher:
        self.started.release()
        assert self.go.acquire(timeout=30)
        if grammar == "bad":
            raise InvalidRequest("a bad one")
        if grammar == "broken":
            raise ZeroDivisionError
        return MATCHER


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


@pytest.fixture
def inbox(compiler: Compiler) -> Inbox:
    return Inbox(cast(GrammarCompiler, compiler))


def submit(number: int, grammar: str = "") -> Submit:
    return Submit(GenerateRequest(request_id=number, prompt=(1,), sampling=SamplingParams(grammar=grammar)))


def test_those_without_a_grammar_do_not_wait_for_those_with_one(inbox: Inbox, compiler: Compiler) -> None:
    first, second = submit(1, "good"), submit(2)
    inbox.put(first)
    inbox.put(second)
    assert inbox.get() == Awaited(0)
    assert inbox.get() == Arrival(second.request, None, 0)
    assert inbox.empty()
    compiler.go.release()
    assert inbox.get() == Arrival(first.request, MATCHER, 0)


def test_a_grammar_that_fails_says_why(inbox: Inbox, compiler: Compiler) -> None:
    inbox.put(submit(1, "bad"))
    inbox.put(submit(2, "broken"))
    compiler.go.release(2)
    assert inbox.get() == inbox.get() == Awaited(0)
    refused, broken = inbox.get(), inbox.get()
    assert isinstance(refused, RequestFailed)
    assert isinstance(broken, RequestFailed)
    assert isinstance(refused.to_error(), InvalidRequest)
    assert (refused.request_id, str(refused.to_error())) == (1, "a bad one")
    assert isinstance(broken.to_error(), InternalError)


def test_nobody_hears_of_a_request_that_was_aborted_meanwhile(inbox: Inbox, compiler: Compiler) -> None:
    inbox.put(submit(1, "good"))
    assert compiler.started.acquire(timeout=30)
    inbox.put(submit(2, "good"))
    # One is under way, one waits: both are forgotten.
    inbox.put(Abort(1))
    inbox.put(Abort(2))
    inbox.put(submit(3, "good"))
    compiler.go.release(3)
    items = [inbox.get() for _ in range(6)]
    assert [type(item) for item in items] == [Awaited, Awaited, NoLongerAwaited, NoLongerAwaited, Awaited, Arrival]
    assert isinstance(items[-1], Arrival)
    assert items[-1].request.request_id == 3
    inbox.put(Abort(3))
    assert inbox.get() == Abort(3)
    inbox.close()
    assert isinstance(inbox.get(), Closed)
