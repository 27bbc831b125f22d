"""The runtime process that the contract tests share."""

from __future__ import annotations

from contract.runtime_server import server, stub, tiny_checkpoint

__all__ = ["server", "stub", "tiny_checkpoint"]
