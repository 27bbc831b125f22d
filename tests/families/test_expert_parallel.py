"""Every routed family gives the same bits whether one rank holds all experts or several share them."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.config import GroupMember
from openmodel_runtime.models.registry import read_model_config
from openmodel_runtime.parallel.exchange import GroupExchange
from openmodel_runtime.parallel.expert_load import ExpertLoad
from openmodel_runtime.parallel.meeting import open_mailbox
from openmodel_runtime.parallel.placement import plan_placement
from openmodel_runtime.parallel.step_group import StepOpening

from .catalog import write_served
from .conftest import MOST_RANKS
from .ours import Sequences, load
from .test_parity import prompt

ROUTED = ["mixtral", "qwen3-moe", "qwen3-moe-mixed", "gpt-oss", "deepseek-v2", "deepseek-v3", "grok-1"]


@dataclass(frozen=True)
class ExpertJob:
    """What a rank computes with its group, in steps; a rank may have no token in one."""

    folder: Path
    member: GroupMember
    redundant: int
    steps: tuple[tuple[int, ...], ...]

    def compute(self, kernels: CpuKernels) -> Tensor:
        experts = read_model_config(ConfigFields(read_json(self.folder / "config.json"))).experts
        assert experts is not None
        placement = plan_placement(sorted(experts.layers), experts.count, self.member.size, self.redundant)
        mailbox = open_mailbox(self.member)
        mailbox.meet()
        exchange = GroupExchange(mailbox, placement, experts.count, ExpertLoad(experts.layers, experts.count))
        model = load(self.folder, kernels, torch.bfloat16, slots=placement.of_rank(self.member.rank))
        sequence, rows = Sequences(model, 1), []
        for chunk in self.steps:
            opened = exchange.open(StepOpening(tokens=len(chunk), bell=0, awaited=0, next_epoch=0))
            if opened.has_tokens:
                rows.append(sequence.run([chunk], exchange)[0])
        return torch.cat(rows)


def chunks_of(rank: int) -> tuple[tuple[int, ...], ...]:
    """A prompt of the rank's own, cut differently on each, with steps in which it has nothing."""
    tokens = tuple(prompt(rank, 40 - 7 * rank))
    cut = (11, 12) if rank % 2 else (0, 17)
    return tokens[: cut[0]], tokens[cut[0] : cut[1]], (), tokens[cut[1] :]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ROUTED)
def test_any_number_of_ranks_gives_the_same_bits(name: str, ranks: list[Connection], tmp_path: Path) -> None:
    write_served(name, tmp_path, torch.bfloat16)
    kernels = CpuKernels()
    whole = load(tmp_path, kernels, torch.bfloat16)
    alone = [Sequences(whole, 1).run([sum(chunks_of(rank), ())])[0] for rank in range(MOST_RANKS)]
    for size in range(2, MOST_RANKS + 1):
        for redundant in (0, size - 1):
            store = str(tmp_path / f"store-{size}-{redundant}")
            for rank in range(size):
                member = GroupMember(rank=rank, size=size, epoch=1, store=store)
                ranks[rank].send(ExpertJob(tmp_path, member, redundant, chunks_of(rank)))
            for rank in range(size):
                answer = ranks[rank].recv()
                assert isinstance(answer, Tensor), answer
                assert torch.equal(answer, alone[rank]), (size, redundant, rank)
