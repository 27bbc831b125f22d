"""Dense models whose matrices ranks share: near the whole model's numbers, the same bits however the work is cut."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from openmodel_kernels.cpu.kernels import CpuKernels
from openmodel_runtime.checkpoint.config_fields import ConfigFields, read_json
from openmodel_runtime.config import GroupMember
from openmodel_runtime.models.registry import read_model_config
from openmodel_runtime.parallel.matrix_exchange import MatrixExchange
from openmodel_runtime.parallel.matrix_shard import MatrixShard
from openmodel_runtime.parallel.meeting import open_mailbox

from .catalog import MODELS, SmallModel, write_served
from .ours import Sequences, load
from .test_parity import prompt

DENSE = ["llama-2", "llama-3", "llama-biased", "mistral", "mistral-window", "ministral-3", "qwen2", "qwen3"]
CUTS = ((0, 40), (0, 1, 18, 40), (0, 23, 39, 40))


@dataclass(frozen=True)
class MatrixJob:
    """A prompt, computed with the others in these pieces, each time anew."""

    folder: Path
    member: GroupMember
    dtype: torch.dtype
    tokens: tuple[int, ...]

    def compute(self, kernels: CpuKernels) -> Tensor:
        mailbox = open_mailbox(self.member)
        mailbox.meet()
        exchange = MatrixExchange(mailbox)
        model = load(self.folder, kernels, self.dtype, shard=MatrixShard(self.member.rank, self.member.size))
        answers = []
        for cut in CUTS:
            sequence = Sequences(model, 1)
            pieces = [self.tokens[first:last] for first, last in pairwise(cut)]
            answers.append(torch.cat([sequence.run([piece], matrices=exchange)[0] for piece in pieces]))
        return torch.stack(answers)


def compute(folder: Path, ranks: list[Connection], size: int, dtype: torch.dtype, tokens: tuple[int, ...]) -> Tensor:
    """What the ranks find together: they all find the same."""
    for rank in range(size):
        member = GroupMember(rank=rank, size=size, epoch=1, store=str(folder / f"store-{size}-{dtype}"))
        ranks[rank].send(MatrixJob(folder, member, dtype, tokens))
    answers = [ranks[rank].recv() for rank in range(size)]
    for answer in answers:
        assert isinstance(answer, Tensor), answer
        assert torch.equal(answer, answers[0])
    first: Tensor = answers[0]
    return first


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_ranks_that_share_matrices_agree_with_the_whole(
    name: str, dtype: torch.dtype, ranks: list[Connection], tmp_path: Path
) -> None:
    write_served(name, tmp_path, dtype)
    tokens = tuple(prompt(0, 40))
    whole = Sequences(load(tmp_path, CpuKernels(), dtype), 1).run([tokens])[0]
    answers = compute(tmp_path, ranks, 2, dtype, tokens)
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    assert (answers[0] - whole).norm() / whole.norm() < (1e-5 if dtype is torch.float32 else 0.03)


def test_heads_that_do_not_divide_evenly(
    ranks: list[Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four key/value heads on three ranks; many rows, which each rank adds up in part."""
    shape = {"num_key_value_heads": 4, "num_attention_heads": 8, "head_dim": 32}
    monkeypatch.setitem(MODELS, "four-heads", SmallModel(transformers.LlamaConfig, shape))
    write_served("four-heads", tmp_path, torch.float32)
    tokens = tuple(prompt(0, 40))
    whole = Sequences(load(tmp_path, CpuKernels(), torch.float32), 1).run([tokens])[0]
    answers = compute(tmp_path, ranks, 3, torch.float32, tokens)
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    assert (answers[0] - whole).abs().max() / whole.abs().max() < 1e-5


def test_what_can_not_be_shared_so_is_refused_by_name(tmp_path: Path) -> None:
    for name, ranks, reason in (("mixtral", 2, "use parallelism.expert"), ("llama-2", 3, "shared by 1 to 2 ranks")):
        write_served(name, tmp_path / name, torch.float32)
        config = read_model_config(ConfigFields(read_json(tmp_path / name / "config.json")))
        with pytest.raises(ValueError, match=reason):
            MatrixShard(0, ranks).config(config)
