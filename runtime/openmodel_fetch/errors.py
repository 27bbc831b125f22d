"""Why a checkpoint can not be fetched.

A `SourceRefused` ends the fetch for good, as every StartError; a `FetchInterrupted` is tried again, and goes on with
what has not come yet.
"""

from __future__ import annotations

from openmodel_runtime.errors import StartError

EXIT_INTERRUPTED = 75
"""Exit code after a FetchInterrupted (EX_TEMPFAIL of sysexits.h)."""


class SourceRefused(StartError):
    """The hub has no such model, or does not let us have it; the message names field and remedy."""

    reason = "SourceRefused"


class DigestMismatch(StartError):
    """The checkpoint is another than the one that was pinned; the message has its digest."""

    reason = "DigestMismatch"


class FetchInterrupted(Exception):
    """The hub or the disk failed on the way: what has come is kept."""

    reason = "FetchInterrupted"


class StorageFull(FetchInterrupted):
    """There is no room for the checkpoint; the message says how much is wanted."""

    reason = "StorageFull"
