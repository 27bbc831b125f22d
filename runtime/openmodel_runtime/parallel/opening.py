"""The exchange that opens a step: every rank tells every other what it has."""

from __future__ import annotations

import torch

from openmodel_runtime.parallel.mailbox import Mailbox
from openmodel_runtime.parallel.step_group import OpenedStep, StepOpening


def open_step(mailbox: Mailbox, told: StepOpening) -> tuple[OpenedStep, list[int]]:
    """What all have told together, and how many tokens each rank has."""
    mine = torch.tensor([[told.tokens, told.bell, told.awaited, told.next_epoch]])
    heard = mine.repeat(mailbox.ranks, 1)
    mailbox.swap([mine] * mailbox.ranks, [heard[rank : rank + 1] for rank in range(mailbox.ranks)])
    rows, bells, awaited, epochs = heard.T.tolist()
    busy = any(rows)
    opened = OpenedStep(
        has_tokens=busy,
        resting=not busy and len(set(bells)) == 1 and not any(awaited),
        next_epoch=epochs[0] if len(set(epochs)) == 1 else 0,
    )
    return opened, rows
