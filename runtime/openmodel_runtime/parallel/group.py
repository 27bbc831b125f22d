"""Ranks of a group find each other and become a process group of torch's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch.distributed as dist

from openmodel_runtime.config import GroupMember

# A rank that stands still longer than this ends the group. Not a detector: false alarms would cost all requests.
_TIMEOUT = timedelta(minutes=5)
_LOOPBACK = "lo"
# Some of it is not in torch's stubs.
_torch: Any = dist


def join_group(member: GroupMember) -> dist.ProcessGroup:
    """Waits for the others; all ranks are in one pod, and meet over its loopback."""
    gloo = _torch.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(interface=_LOOPBACK)]
    options._timeout = _TIMEOUT
    group: dist.ProcessGroup = gloo(_torch.FileStore(member.store, member.size), member.rank, member.size, options)
    return group
