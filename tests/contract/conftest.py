"""The runtime process that the contract tests share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("contract.runtime_server", "contract.infer_requests")

from contract.runtime_server import server, stub, tiny_checkpoint  # noqa: E402

__all__ = ["server", "stub", "tiny_checkpoint"]
