"""Tests' tensors come into being where their backend computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .backends import TRITON, TRITON_DEVICE


@pytest.fixture(autouse=True)
def _device(request: pytest.FixtureRequest) -> Iterator[None]:
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if parameters.get("name") != TRITON:
        yield
        return
    with TRITON_DEVICE:
        yield
