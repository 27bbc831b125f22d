"""What tests of backends leave behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .backends import TRITON, TRITON_DEVICE, use_best_capability


@pytest.fixture(autouse=True)
def _device(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test's tensors come into being where its backend computes."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if parameters.get("name") != TRITON:
        yield
        return
    with TRITON_DEVICE:
        yield


@pytest.fixture(autouse=True)
def _best_capability() -> Iterator[None]:
    """The process goes on with the kernels that it began with."""
    yield
    use_best_capability()
