"""Ranks: processes that share memory, as in a pod. They are started once for all families."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Protocol

import pytest
import torch.multiprocessing as multiprocessing
from torch import Tensor

from openmodel_kernels.cpu.kernels import CpuKernels

MOST_RANKS = 4


class Job(Protocol):
    """What a rank is sent; it sends back what comes of it, or a traceback."""

    def compute(self, kernels: CpuKernels) -> Tensor: ...


def work(jobs: Connection) -> None:
    """A rank process: runs what it is sent until the other end closes."""
    kernels = CpuKernels()
    kernels.set_num_threads(1)
    while True:
        try:
            job: Job = jobs.recv()
        except EOFError:
            return
        try:
            jobs.send(job.compute(kernels))
        except Exception:
            jobs.send(traceback.format_exc())


@pytest.fixture(scope="module")
def ranks() -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(MOST_RANKS)]
    processes = [context.Process(target=work, args=(theirs,), daemon=True) for _, theirs in pipes]
    for process in processes:
        process.start()
    yield [ours for ours, _ in pipes]
    for ours, theirs in pipes:
        ours.close()
        theirs.close()
    for process in processes:
        process.join(10)
        process.kill()
