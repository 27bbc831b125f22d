"""A group of pods on a network that is cut: the greater part goes on, the smaller answers nobody and comes back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.infer_requests import LONG, Requests, answers, request, streamed, text_of, until_answered
from contract.network import Network
from contract.pods import Pods
from contract.runtime_server import long_mixtral, until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="makes network namespaces: needs root and iproute2"
)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


@pytest.fixture
def pods(network: Network, tmp_path: Path) -> Iterator[Pods]:
    """Three pods, each on a machine of its own."""
    with Pods(long_mixtral(tmp_path / "mixtral"), tmp_path, 3, network=network).running(0, 1, 2) as made:
        yield made


def test_the_greater_part_goes_on_and_the_rest_comes_back(pods: Pods, network: Network) -> None:
    lost = 0
    whole = text_of(pods.stub(0).ModelInfer(request(sampling=LONG)))
    owners = [pod for pod in pods.pods if pod != lost]
    streams = {
        pod: pods.stub(pod).ModelStreamInfer(iter(Requests(streamed(sampling=LONG, id="s")))) for pod in (*owners, lost)
    }
    begun = {pod: [next(stream)] for pod, stream in streams.items()}
    with network.cut(lost):
        for pod in owners:
            assert answers([*begun[pod], *until_answered(streams[pod], "s")])["s"].text == whole
        assert text_of(pods.stub(owners[0]).ModelInfer(request(sampling=LONG))) == whole
    end = answers([*begun[lost], *until_answered(streams[lost], "s")])["s"]
    assert end.text == whole or "too few of its group" in end.error
    until(lambda: {pods.epoch(pod)[1] for pod in pods.pods} == {3}, "all step together")
    pods.wait_until_ready()
    assert [text_of(pods.stub(pod).ModelInfer(request(sampling=LONG))) for pod in pods.pods] == [whole] * 3
