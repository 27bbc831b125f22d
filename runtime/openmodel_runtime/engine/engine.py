"""The loop of a rank: schedule, run, update."""

from __future__ import annotations

from openmodel_runtime.engine.model_runner import ModelRunner
from openmodel_runtime.engine.scheduler import Scheduler
from openmodel_runtime.request import GenerateRequest, TokenOutput


class Engine:
    """Generates tokens for any number of requests at once. Not thread-safe: one thread owns it."""

    def __init__(self, scheduler: Scheduler, runner: ModelRunner) -> None:
        self._scheduler = scheduler
        self._runner = runner

    @property
    def scheduler(self) -> Scheduler:
        """For reading how much is waiting and running."""
        return self._scheduler

    def submit(self, request: GenerateRequest) -> None:
        """Queues a request."""
        self._scheduler.add(request)

    def abort(self, request_id: int) -> None:
        """Ends a request and frees its cache; no more tokens of it come."""
        self._scheduler.abort(request_id)
        self._runner.release(request_id)

    def step(self) -> list[TokenOutput]:
        """Runs one step; returns the tokens that it made."""
        batch = self._scheduler.schedule()
        if not batch.scheduled:
            return []
        outputs = self._scheduler.update(batch, self._runner.run(batch))
        for output in outputs:
            if output.finish_reason:
                self._runner.release(output.request_id)
        return outputs
