"""Ranks of one pod that start together: each reads its weights, then their caches share what is left of the memory."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

from openmodel_runtime.config import EngineConfig
from openmodel_runtime.errors import StartError
from openmodel_runtime.rank.client import RankClient
from openmodel_runtime.rank.messages import Fit, GroupShare, Loaded, Start, StartFailed

_Answer = TypeVar("_Answer")


class RankStartError(StartError):
    """A rank's own reason, passed on."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DiedLoading(Exception):
    """A rank ended before it had loaded, and did not say why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a rank ended with exit code {exit_code} before it had loaded")
        self.exit_code = exit_code


async def start_ranks(
    clients: Sequence[RankClient],
    model_path: Path,
    engine: EngineConfig,
    shares: Sequence[GroupShare | None],
    fit: Fit | None = None,
) -> list[Loaded]:
    """Starts a rank for each client, with its share of the experts. Raises RankStartError and DiedLoading.

    `fit` says how to divide what is left of the memory; without it, they share that.
    """
    messages = [Start(str(model_path), engine, share) for share in shares]
    await _all(clients, [client.start(message) for client, message in zip(clients, messages, strict=True)])
    return await _all(clients, [client.fit(fit or Fit(len(clients))) for client in clients])


async def _all(
    clients: Sequence[RankClient], asked: Sequence[Coroutine[None, None, _Answer | StartFailed | None]]
) -> list[_Answer]:
    """What the ranks answer."""

    async def answer(client: RankClient, asking: Coroutine[None, None, _Answer | StartFailed | None]) -> _Answer:
        answered = await asking
        if answered is None:
            raise DiedLoading(await client.exit_code())
        if isinstance(answered, StartFailed):
            raise RankStartError(answered.reason, answered.message)
        return answered

    tasks = [asyncio.ensure_future(answer(*pair)) for pair in zip(clients, asked, strict=True)]
    try:
        # The first that fails is heard of, whoever else is still on the way.
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
