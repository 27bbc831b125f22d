from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from openmodel_operator import work_queue
from openmodel_operator.work_queue import WorkQueue


async def run_until(queue: WorkQueue[str], done: asyncio.Event) -> None:
    task = asyncio.create_task(queue.run())
    try:
        await asyncio.wait_for(done.wait(), 10)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("added", "first", "worked_on"),
    [
        (("a", "a", "b", "a", "last"), (), ["a", "b", "last"]),
        # One that is put first is before the others, and once all the same.
        (("a", "b", "last"), ("b",), ["b", "a", "last"]),
    ],
)
async def test_a_waiting_key_is_worked_on_once(
    added: tuple[str, ...], first: tuple[str, ...], worked_on: list[str]
) -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def work(key: str) -> None:
        seen.append(key)
        if key == "last":
            done.set()

    queue = WorkQueue(work, 1)
    for key in added:
        queue.add(key)
    for key in first:
        queue.add(key, first=True)
    await run_until(queue, done)
    assert seen == worked_on


async def test_a_key_added_during_its_work_is_worked_on_again_and_never_twice_at_once() -> None:
    running: set[str] = set()
    rounds = 0
    done = asyncio.Event()

    async def work(key: str) -> None:
        nonlocal rounds
        assert key not in running
        running.add(key)
        rounds += 1
        if rounds < 3:
            queue.add(key)
            queue.add(key)
            await asyncio.sleep(0)
        else:
            done.set()
        running.discard(key)

    queue = WorkQueue(work, 4)
    queue.add("a")
    await run_until(queue, done)
    assert rounds == 3


async def test_a_failed_key_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "_FIRST_PAUSE_SECONDS", 0.001)
    attempts = 0
    done = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise RuntimeError("away")
        done.set()

    queue = WorkQueue(work, 1)
    queue.add("a")
    await run_until(queue, done)
    assert attempts == 4


async def test_what_a_look_waited_for_may_be_cancelled_and_the_worker_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "_FIRST_PAUSE_SECONDS", 0.0)
    looks = 0
    done = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            done.set()
            return
        asked = asyncio.ensure_future(asyncio.Event().wait())
        asked.cancel()
        await asked

    queue = WorkQueue(work, 1)
    queue.add("key")
    await run_until(queue, done)


async def test_a_key_that_fails_for_ever_is_put_off_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "_LONGEST_PAUSE_SECONDS", 0.0)
    looks = 0
    done = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal looks
        looks += 1
        if looks > 1100:
            done.set()
        raise ValueError("no")

    logger = work_queue._log
    monkeypatch.setattr(logger, "disabled", True)
    queue = WorkQueue(work, 1)
    queue.add("key")
    await run_until(queue, done)


async def test_the_earlier_of_two_requests_for_later_counts() -> None:
    done = asyncio.Event()

    async def work(_: str) -> None:
        done.set()

    queue = WorkQueue(work, 1)
    queue.add_later("key", 3600)
    queue.add_later("key", 0)
    queue.add_later("key", 3600)
    await run_until(queue, done)
