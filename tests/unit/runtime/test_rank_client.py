"""The front's end of a rank process."""

from __future__ import annotations

import signal

import pytest

from openmodel_runtime.config import EngineConfig
from openmodel_runtime.rank import client as module
from openmodel_runtime.rank.client import RankClient
from openmodel_runtime.rank.messages import Start


async def test_a_rank_that_gives_no_sign_of_life_while_it_starts_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # Less than it takes to load the libraries.
    monkeypatch.setattr(module, "_PING_SECONDS", 0.01)
    monkeypatch.setattr(module, "_UNANSWERED_PINGS_LOADING", 3)
    client = RankClient()
    assert await client.start(Start("/nowhere", EngineConfig())) is None
    assert await client.exit_code() == -signal.SIGKILL
