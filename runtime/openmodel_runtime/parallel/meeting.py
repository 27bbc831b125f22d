"""Where the ranks of an epoch meet: in memory when one pod has them all, else over the network."""

from __future__ import annotations

from openmodel_runtime.config import GroupMember
from openmodel_runtime.parallel.mailbox import Mailbox
from openmodel_runtime.parallel.memory_mailbox import MemoryMailbox
from openmodel_runtime.parallel.network_mailbox import NetworkMailbox


def open_mailbox(member: GroupMember) -> Mailbox:
    """This rank's end; nobody has met yet."""
    return NetworkMailbox(member) if member.address else MemoryMailbox(member)
