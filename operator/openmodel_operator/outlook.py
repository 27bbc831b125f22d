"""What is known of a model before it runs: what it is and what it needs, that this is being found out, or why not.

Pure data; `inspector` fills it.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmodel_operator.failures import Failure
from openmodel_operator.inspection import Inspection
from openmodel_operator.job_progress import Underway
from openmodel_operator.memory_plan import MemoryPlan
from openmodel_operator.reasons import Reason


@dataclass(frozen=True, slots=True)
class Known:
    """It can be served."""

    inspection: Inspection
    memory: MemoryPlan
    digest: str = ""
    """Of what was fetched, as its manifest has it, or of what is mounted, where one is pinned and was found."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing is built for this spec; what serves keeps serving."""

    reason: Reason
    message: str
    planned: bool
    """False: the spec itself can not be planned; True: something else is in the way."""
    failure: Failure | None = None
    """What was tried, and how it ended."""
    inspection: Inspection | None = None
    """Where the checkpoint is known."""
    terminal: bool = True
    """Only a change by the user helps."""


Outlook = Known | Underway | Blocked


def in_the_way(failure: Failure, *, planned: bool) -> Blocked:
    """What a Job that failed comes to; see `Blocked` for `planned`."""
    message = f"{failure.message}; it is tried again every ten minutes"
    return Blocked(failure.reason, message, planned, failure=failure, terminal=failure.terminal)
