"""The checkpoint's chat template, run where it can harm nobody.

A template is somebody else's program. Jinja's sandbox bounds what it reaches; a process of its own bounds its time and
its memory, so that one that never ends costs its caller an error and other callers nothing. The process starts with the
first conversation and is started anew after a template that had to be ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from openmodel_runtime.errors import CheckpointError, InvalidRequest
from openmodel_runtime.text.conversation import Conversation
from openmodel_runtime.text.template_worker import CPU_SECONDS, MAX_CHARACTERS, check_syntax

# A rendered character takes at most twelve in JSON; then the reader would give up on the line.
_LINE_BYTES = 12 * MAX_CHARACTERS + 1024
_REFUSED = "the model's chat template refuses these messages: "


class ChatTemplate:
    """Renders conversations, one after the other."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        """CheckpointError when the source is no template."""
        if (fault := check_syntax(source)) is not None:
            raise CheckpointError(f"the chat template can not be read: {fault}")
        self._first = {"source": source, "special": dict(special)}
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Id of the process, if it was started."""
        return None if self._process is None else self._process.pid

    async def render(self, conversation: Conversation) -> str:
        """The prompt; InvalidRequest when the template raises, or takes more time or memory than it may."""
        values = {
            **conversation.template_kwargs,
            "messages": conversation.messages,
            "tools": conversation.tools,
            "add_generation_prompt": True,
        }
        # A caller who goes away in the middle must not leave the answer to the next.
        answer = await asyncio.shield(asyncio.ensure_future(self._ask(values)))
        if "error" in answer:
            raise InvalidRequest(_REFUSED + answer["error"])
        return str(answer["text"])

    async def close(self) -> None:
        """Ends the process, if there is one."""
        if (process := self._process) is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, values: dict[str, Any]) -> dict[str, Any]:
        async with self._turn:
            process = self._process
            if process is None or process.returncode is not None:
                process = self._process = await self._start()
            line = await _exchange(process, values)
            if line:
                answer: dict[str, Any] = json.loads(line)
                return answer
            code = await process.wait()
        if code == -signal.SIGPROF:
            return {"error": f"it computes for more than {CPU_SECONDS} s"}
        return {"error": f"its process ended with code {code}"}

    async def _start(self) -> Process:
        # The process gets no variables of ours: there may be secrets among them.
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TZ") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "openmodel_runtime.text.template_worker",
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
            limit=_LINE_BYTES,
        )
        _send(process, self._first)
        return process


async def _exchange(process: Process, values: dict[str, Any]) -> bytes:
    """The answer to a conversation; b"" when the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        _send(process, values)
        await process.stdin.drain()
    return await process.stdout.readline()


def _send(process: Process, value: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value).encode() + b"\n")
